"""Networks of transformers without memory, and the sizes that they come out with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from secateur.models.hf_source import quiet
from secateur.spec import Structure
from secateur.structure import named_tensors
from secateur.structure.attributes import read_attribute

Key = tuple[Any, ...]
"""`("tensor", name, dimension)`, `("attribute", module, name, index)` or `("number", module, name)`."""
Sizes = dict[Key, float]


def build_without_memory(model_class: type[Any], config: Mapping[str, Any]) -> nn.Module | None:
    """The network that `from_pretrained` would build for this configuration; None where its code refuses it."""
    with quiet(), torch.random.fork_rng(devices=[]), torch.device("meta"), _Unfilled():
        try:
            return model_class(model_class.config_class.from_dict(dict(config)))
        except Exception:  # their code may raise anything for numbers that do not fit together
            return None


class _Unfilled(TorchFunctionMode):
    """Skips what fills tensors with first values: without memory there is nothing to fill, at some expense."""

    _FILLS = frozenset(getattr(torch.Tensor, f"{name}_") for name in ("uniform", "normal", "zero", "fill"))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        fills = func in self._FILLS or getattr(func, "__module__", "") == "torch.nn.init"
        filled = args[0] if args else (kwargs or {}).get("tensor")
        return filled if fills and isinstance(filled, torch.Tensor) else func(*args, **(kwargs or {}))


def sizes_of(model: nn.Module, structure: Structure) -> Sizes | None:
    """All that a number of the configuration may decide: the dimensions of tensors, the attributes that hold sizes, and
    the numbers that modules computed when they were built. None for a network with other tensors than the structure."""
    found: Sizes = {}
    names: set[str] = set()
    for tensor in named_tensors(model):
        names.add(tensor.name)
        found |= {("tensor", tensor.name, dim): size for dim, size in enumerate(tensor.tensor.shape)}
    if names != set(structure.tensors):
        return None
    for attribute in structure.attributes:
        key = (attribute.module, attribute.name, attribute.index)
        try:
            found["attribute", *key] = read_attribute(model, key)
        except (AttributeError, TypeError, IndexError):  # a class that holds it in another form for other numbers
            found["attribute", *key] = 0
    for path, module in model.named_modules():
        found |= {("number", path, name): value for name, value in vars(module).items() if type(value) is float}
    return found
