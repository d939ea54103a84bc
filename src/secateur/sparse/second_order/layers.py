"""Layers whose products can be written as one matrix product: what their weights read, and where a constant can go.

Suffixes of shapes: N samples, P places of the output (positions of a map, tokens), G groups of a convolution, R
outputs, O outputs of a group, C columns (inputs of a group at every place of the kernel), D columns and a constant 1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.sparse.layout import Layout, layout_of
from secateur.structure.capture import Inputs, attached, call_model, capture
from secateur.structure.program import Program, Ref, refs
from secateur.structure.weights import find_norms

PLACES = 32
"""Places of each sample that are looked at, where they need not all be."""
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Layer:
    """A convolution or a linear layer and the weight that is pruned."""

    name: str
    """Of the weight."""
    module: nn.Module
    layout: Layout
    groups: int
    constant: str | None
    """The tensor that can take up a constant added to the outputs: the layer's own bias, or the running mean of the
    BatchNorm that alone reads the outputs."""

    @property
    def weight(self) -> Tensor:
        return self.module.get_parameter(self.name.rpartition(".")[2]).detach()

    def columns(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the weight reads, `(N, G, D, P)`; of a convolution `PLACES` places at most, drawn at random, where a
        generator is given."""
        made = self._windows(x, generator) if isinstance(self.module, _CONVOLUTIONS) else _features(x)
        samples, _, _, count = made.shape
        out = made.new_empty(samples, self.groups, self.layout.columns + 1, count)
        out[:, :, :-1] = made.reshape(samples, self.groups, -1, count)
        out[:, :, -1] = 1
        return out

    def outputs(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The layer's output as `(N, G, O, P)`; at the places that `columns` draws from a generator in the same state,
        where one is given."""
        if isinstance(self.module, _CONVOLUTIONS):
            batched = y if y.dim() == len(self.module.kernel_size) + 2 else y[None]
            made = batched.reshape(len(batched), self.groups, -1, batched[0, 0].numel())
            places = _some(made.shape[-1], generator)
            return made if places is None else made[..., places.to(made.device)]
        return _features(y)

    def values(self) -> Tensor:
        """The weight as rows, with a zero for the constant, `(R, D)`."""
        rows = self.layout.matrix(self.weight).float()
        return torch.cat([rows, rows.new_zeros(len(rows), 1)], dim=1)

    def kept_rows(self, kept: Tensor) -> Tensor:
        """A mask of the weight as rows, the constant kept, `(R, D)`."""
        rows = self.layout.matrix(kept)
        return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)

    def offset(self, model: nn.Module) -> Tensor | None:
        """What is added to each output, by the layer's bias or the mean of the BatchNorm behind it; None without."""
        if self.constant is None:
            return None
        tensor = model.state_dict(keep_vars=True)[self.constant].detach()
        return self.constant_sign * tensor

    @property
    def constant_sign(self) -> int:
        """What a constant added to the outputs is multiplied by in its tensor: a mean is subtracted."""
        return -1 if self.constant is not None and self.constant.endswith("running_mean") else 1

    def write_(self, model: nn.Module, values_RD: Tensor) -> None:
        """Set the weight of this model to these rows, and add what stands for the constant to its tensor."""
        with torch.no_grad():
            self.weight.copy_(self.layout.tensor(values_RD[:, :-1]))
            if self.constant is not None:
                held = model.state_dict(keep_vars=True)[self.constant]
                held.add_(values_RD[:, -1], alpha=self.constant_sign)

    def _windows(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        module = self.module
        assert isinstance(module, _CONVOLUTIONS)
        spatial = len(module.kernel_size)
        x = x if x.dim() == spatial + 2 else x[None]
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        for dim, (size, step, apart) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
            x = x.unfold(2 + dim, apart * (size - 1) + 1, step)[..., ::apart]  # (N, channels, *P, *K)
        places = _some(x.shape[2 : 2 + spatial].numel(), generator)
        if places is not None:
            x = x[(slice(None), slice(None), *torch.unravel_index(places.to(x.device), x.shape[2 : 2 + spatial]))]
        maps = x.dim() - 2 - spatial
        order = (0, 1, *range(2 + maps, x.dim()), *range(2, 2 + maps))
        return x.permute(order).reshape(len(x), x.shape[1], -1, x.shape[2 : 2 + maps].numel())


def _features(x: Tensor) -> Tensor:
    """The last dimension as columns and those between as places, `(N, 1, C, P)`."""
    rows = x.reshape(len(x), -1, x.shape[-1]) if x.dim() > 1 else x[None, None]
    return rows.transpose(1, 2)[:, None]


def _some(count: int, generator: torch.Generator | None) -> Tensor | None:
    """Some of so many places; None where all are taken."""
    return None if generator is None or count <= PLACES else torch.randperm(count, generator=generator)[:PLACES]


def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """What a layer was called with, positionally or by name."""
    return args[0] if args else next(iter(kwargs.values()))


def find_layers(model: nn.Module, inputs: Inputs, names: Collection[str]) -> dict[str, Layer]:
    """Layers that a forward of these inputs calls and that hold one of these weights, by its name: linear layers and
    convolutions, transposed ones apart, whose weight no other module holds."""
    holders: dict[int, list[tuple[str, nn.Module]]] = {}
    for path, module in model.named_modules():
        for key, parameter in module.named_parameters(path, recurse=False):
            holders.setdefault(id(parameter), []).append((key, module))
    alone = dict(found[0] for found in holders.values() if len(found) == 1)
    able = {name: alone[name] for name in names if name in alone and _is_layer(name, alone[name])}
    called: set[nn.Module] = set()
    with (
        torch.no_grad(),
        attached(module.register_forward_hook(lambda module, *_: called.add(module)) for module in able.values()),
    ):
        call_model(model, inputs)
    constants = _constants(capture(model, inputs), model)
    return {name: _layer(name, module, constants.get(name)) for name, module in able.items() if module in called}


def _is_layer(name: str, module: nn.Module) -> bool:
    known = isinstance(module, (nn.Linear, *_CONVOLUTIONS)) or type(module).__name__ == "Conv1D"
    return known and name.rpartition(".")[2] == "weight"


def _layer(name: str, module: nn.Module, mean: str | None) -> Layer:
    layout = layout_of(module, module.get_parameter("weight"))
    bias = f"{name.removesuffix('weight')}bias" if getattr(module, "bias", None) is not None else None
    return Layer(name, module, layout, getattr(module, "groups", 1), bias or mean)


def _constants(program: Program, model: nn.Module) -> dict[str, str]:
    """Weight -> running mean of the BatchNorm that alone reads what the weight makes."""
    buffers = dict(model.named_buffers())
    readers: dict[int, int] = {}
    for op in program.ops:
        for number in {*refs(op.args), *refs(op.kwargs)}:
            readers[number] = readers.get(number, 0) + 1
    products = {
        program.named[ref.id]: op.outputs[0]
        for op in program.ops
        for ref in op.args
        if isinstance(ref, Ref) and ref.id in program.named
    }
    return {
        norm.weight: f"{norm.norm}running_mean"
        for norm in find_norms(program)
        if f"{norm.norm}running_mean" in buffers and readers.get(products[norm.weight]) == 1
    }
