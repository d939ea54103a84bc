"""The tensors that a network reads: their names, which of their sizes the caller may choose, and fresh random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_flatten_with_path

from secateur.structure.capture import Inputs

BATCH, LENGTH = "batch", "length"
"""Sizes that the caller of an exported file may choose: the first of all inputs, and the tokens of a text."""


@dataclass(frozen=True)
class Input:
    """A tensor among the example inputs."""

    name: str
    example: Tensor
    moving: Mapping[int, str]
    """Dimensions whose size may be another one, and the name of that size."""

    def only(self, names: Sequence[str]) -> Input:
        """The same with no other sizes than these free."""
        return Input(self.name, self.example, {place: name for place, name in self.moving.items() if name in names})

    def fresh(self, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        """Another tensor of the kind: normal numbers of the example's mean and spread, or, of whole numbers and masks,
        some of the example's."""
        shape = [sizes.get(self.moving.get(place, ""), size) for place, size in enumerate(self.example.shape)]
        values = self.example.detach().cpu()
        if not values.is_floating_point():
            drawn = torch.randint(max(values.numel(), 1), shape, generator=generator)
            return values.flatten()[drawn] if values.numel() else values
        spread, mean = torch.std_mean(values.float(), correction=0)
        return (mean + spread * torch.randn(shape, generator=generator)).to(values.dtype)


def inputs_of(model: nn.Module, inputs: Inputs) -> list[Input]:
    """The tensors among the inputs, in the order of the inputs; names are those of the forward's parameters."""
    parameters = _parameter_names(model)
    found: list[Input] = []
    for path, leaf in tree_flatten_with_path(inputs)[0]:
        if isinstance(leaf, Tensor):
            keys: list[Any] = [getattr(step, "key", getattr(step, "idx", step)) for step in path]
            if isinstance(inputs, tuple):
                keys[0] = parameters[keys[0]] if keys[0] < len(parameters) else f"input_{keys[0]}"
            found.append(Input("_".join(map(str, keys)), leaf, {} if len(path) > 1 else _moving(leaf)))
    batches = {one.example.shape[0] for one in found if BATCH in one.moving.values()}
    lengths = {one.example.shape[1] for one in found if LENGTH in one.moving.values()}
    shared = [name for name, sizes in ((BATCH, batches), (LENGTH, lengths)) if len(sizes) == 1]
    return [one.only(shared) for one in found]


def sizes_of(inputs: Sequence[Input]) -> dict[str, int]:
    """The sizes that may be chosen, as the examples have them."""
    return {name: one.example.shape[place] for one in inputs for place, name in one.moving.items()}


def _moving(tensor: Tensor) -> dict[int, str]:
    """The batch is in front; a matrix of whole numbers is a text."""
    places = {0: BATCH} if tensor.dim() else {}
    return {**places, 1: LENGTH} if tensor.dim() == 2 and not tensor.is_floating_point() else places


def _parameter_names(model: nn.Module) -> list[str]:
    named = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in signature(model.forward).parameters.items() if parameter.kind in named]


def with_tensors(inputs: Inputs, tensors: Sequence[Tensor]) -> Inputs:
    """The inputs with these tensors in place of their own; all else stays."""
    leaves, form = tree_flatten(inputs)
    rest = iter(tensors)
    return form.unflatten([next(rest) if isinstance(leaf, Tensor) else leaf for leaf in leaves])
