"""Channels that are zero already: which of them can go for good without changing what the model computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from secateur.score.reduction import columns, sum_along
from secateur.spec import Axis, Plan, Structure
from secateur.spec.expr import Expr, axes_of
from secateur.spec.plan import Indices
from secateur.structure import named_tensors
from secateur.structure.capture import Inputs, normalise_inputs
from secateur.surgery import compared, eval_outputs, shrink, tolerance_of


def plan_from_zeros(model: nn.Module, structure: Structure, example_inputs: Inputs | Tensor) -> Plan:
    """A plan that removes every index of every axis that may be cut and is dead: either whatever reads it multiplies it
    with zero, or whatever makes it makes zero: rows and biases are zero, or the scale and shift of the BatchNorm.

    A row of zeros whose bias is not zero is alive. Axes that are tied to others, and those of which each head or group
    has its own choice, stay whole. What a norm over the channels or a softmax makes of dead ones is
    found by running the examples: axes without which the outputs change stay whole.
    """
    tensors = {found.name: found.tensor.detach() for found in named_tensors(model)}
    inputs = normalise_inputs(example_inputs)
    found = {axis.name: _alive(axis, structure, tensors) for axis in structure.prunable if _is_plain(axis, structure)}
    kept = {name: indices for name, indices in found.items() if len(indices) < structure.sizes[name]}
    if _computes_the_same(model, Plan(structure, kept), inputs):
        return Plan(structure, kept)
    safe: dict[str, Indices] = {}
    for name, indices in kept.items():
        if _computes_the_same(model, Plan(structure, {**safe, name: indices}), inputs):
            safe[name] = indices
    return Plan(structure, safe)


def _is_plain(axis: Axis, structure: Structure) -> bool:
    return axis.within is None and axis.name not in structure.tied and axis.role != "blocks"


def _computes_the_same(model: nn.Module, plan: Plan, inputs: Inputs) -> bool:
    expected, got = eval_outputs(model, inputs), eval_outputs(shrink(model, plan), inputs)
    return compared(expected, got, tolerance_of(model)).ok


def _alive(axis: Axis, structure: Structure, tensors: Mapping[str, Tensor]) -> Indices:
    """The indices that count, and as many others as the axis needs at least."""
    alive = _used(axis, structure, tensors) & _made(axis, structure, tensors)
    missing = max(1, axis.least) - int(alive.sum())
    spare = torch.nonzero(~alive).flatten()[: max(0, missing)]
    alive[spare] = True
    return tuple(torch.nonzero(alive).flatten().tolist())


def _used(axis: Axis, structure: Structure, tensors: Mapping[str, Tensor]) -> Tensor:
    """Per index, whether a product reads it with anything but zeros; where no product is known to, all are."""
    readers = [name for name, dim in structure.reads.items() if axis.name in axes_of(structure.tensors[name].dims[dim])]
    used = torch.full((axis.size,), not readers)
    for name in readers:
        dims, dim = structure.tensors[name].dims, structure.reads[name]
        used |= _nonzero(tensors[name], columns(dims, dim, axis), axis, structure)
    return used


def _made(axis: Axis, structure: Structure, tensors: Mapping[str, Tensor]) -> Tensor:
    """Per index, whether anything that makes it is not zero. What goes into a BatchNorm does not count: its scale and
    shift do."""
    before_norms = {f"{norm.weight.removesuffix('weight')}{leaf}" for norm in structure.norms for leaf in _LEAVES}
    made = torch.zeros(axis.size, dtype=torch.bool)
    for name, spec in structure.tensors.items():
        if spec.kind == "parameter" and name not in before_norms:
            own = [1 if place == structure.reads.get(name) else expr for place, expr in enumerate(spec.dims)]
            if any(axis.name in axes_of(expr) for expr in own):
                made |= _nonzero(tensors[name], own, axis, structure)
    return made


_LEAVES = ("weight", "bias")


def _nonzero(values: Tensor, dims: Sequence[Expr], axis: Axis, structure: Structure) -> Tensor:
    """Per index, whether any entry is not zero; dimensions that are not looked at have size one in `dims`."""
    unseen = [place for place, expr in enumerate(dims) if expr == 1]
    size = values.abs().sum(unseen, keepdim=True) if unseen else values.abs()
    return sum_along(size, dims, axis, structure).cpu() > 0
