"""Sums of a tensor's entries along one axis of the structure, wherever the axis stands in its dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from secateur.spec import Axis, Structure
from secateur.spec.expr import Expr, axes_of, index_along

BLOCK = 2**20
"""Elements of a tensor that are looked at together."""

Elements = Callable[[torch.Tensor], torch.Tensor]


class Summed:
    """A function of each element of a tensor, of which sums alone are asked for: taken block by block, so that there is
    never a second tensor of its size."""

    def __init__(self, tensor: torch.Tensor, elements: Elements, idle: Sequence[int] = ()) -> None:
        """idle: dimensions that no sum will keep, which are summed once for all."""
        self.tensor, self.elements, self.idle = tensor, elements, list(idle)
        self._whole: list[torch.Tensor] | None = None

    def keeping(self, keep: Sequence[int]) -> torch.Tensor:
        """The sum over all dimensions but these; float64."""
        others = [dim for dim in range(self.tensor.dim()) if dim not in keep]
        shape = [self.tensor.shape[dim] for dim in sorted(keep)]
        # Filled in place: results that stay, made between blocks that go, would leave memory in pieces.
        made, start = torch.zeros(shape, dtype=torch.float64, device=self.tensor.device), 0
        for values in self._blocks():
            part = values.sum(others) if others else values
            if 0 in keep:
                made[start : start + len(part)] = part
                start += len(part)
            else:
                made += part
        return made

    def _blocks(self) -> Iterable[torch.Tensor]:
        if self.tensor.numel() > BLOCK:
            rows = max(1, BLOCK // (self.tensor.numel() // len(self.tensor)))
            starts = range(0, len(self.tensor), rows)
            return (self._values(self.tensor[start : start + rows]) for start in starts)
        if self._whole is None:
            self._whole = [self._values(self.tensor)]
        return self._whole

    def _values(self, block: torch.Tensor) -> torch.Tensor:
        values = self.elements(block)
        return values.sum(self.idle, keepdim=True) if self.idle else values


def sum_along(values: torch.Tensor | Summed, dims: Sequence[Expr], axis: Axis, structure: Structure) -> torch.Tensor:
    """Sum of `values` over everything but the axis: `(size,)`, or `(parent size, size)` for an axis with a parent;
    float64.

    dims: one expression per dimension of `values`; a dimension that was summed may have size one instead.
    """
    if isinstance(values, torch.Tensor):
        values = Summed(values, lambda block: block)
    holding = [dim for dim, expr in enumerate(dims) if axis.name in axes_of(expr)]
    return torch.stack([_sum_at(values, dims, axis, structure, dim) for dim in holding]).sum(0)


def _sum_at(values: Summed, dims: Sequence[Expr], axis: Axis, structure: Structure, dim: int) -> torch.Tensor:
    if dims[dim] == axis.name and axis.within is None:
        return values.keeping([dim])
    index = index_along(dims[dim], axis.name, structure.sizes)
    if axis.within is None:
        return _scatter(values.keeping([dim]), index, axis.size)
    parents = structure.sizes[axis.within]
    key = key_along(dims[dim], axis, structure)
    if key is not None:
        return _scatter(values.keeping([dim]), key, parents * axis.size).reshape(parents, axis.size)
    partner = next(d for d, expr in enumerate(dims) if d != dim and axis.within in axes_of(expr))
    outer = index_along(dims[partner], axis.within, structure.sizes)
    table = values.keeping([partner, dim])
    both = (outer[:, None] >= 0) & (index[None, :] >= 0)
    key = np.where(both, outer[:, None] * axis.size + index[None, :], -1)
    flat = table if partner < dim else table.T
    return _scatter(flat.reshape(-1), key.reshape(-1), parents * axis.size).reshape(parents, axis.size)


def key_along(expr: Expr, axis: Axis, structure: Structure) -> np.ndarray | None:
    """For each position of the dimension the index of the axis there, -1 where it does not occur; of an axis with a
    parent `parent index * size + index`, None where the parent is not in the same dimension."""
    index = index_along(expr, axis.name, structure.sizes)
    if axis.within is None:
        return index
    parent = index_along(expr, axis.within, structure.sizes)
    return None if (parent[index >= 0] < 0).any() else np.where(index >= 0, parent * axis.size + index, -1)


def _scatter(values: torch.Tensor, index: np.ndarray, size: int) -> torch.Tensor:
    if len(index) == size and (index == np.arange(size)).all():
        return values
    inside = torch.as_tensor(np.flatnonzero(index >= 0), device=values.device)
    target = torch.as_tensor(index[index >= 0], device=values.device)
    return torch.zeros(size, dtype=torch.float64, device=values.device).index_add_(0, target, values[inside])


def columns(dims: Sequence[Expr], dim: int, axis: Axis) -> list[Expr]:
    """The dimensions of a weight, all unseen but `dim` (over which it reads the axis) and that of the axis's parent:
    what the sums of its columns are taken along."""
    return [
        expr if place == dim or (axis.within is not None and axis.within in axes_of(expr)) else 1
        for place, expr in enumerate(dims)
    ]


def rows_along(weight: torch.Tensor, dims: Sequence[Expr], axis: Axis, structure: Structure) -> torch.Tensor:
    """The weight as one row per index of the axis, `(size, entries)`, or `(parent size, size, entries)` for an axis
    with a parent, from the first dimension in which the axis stands (beside its parent)."""
    dim = next(dim for dim, expr in enumerate(dims) if axis.name in axes_of(expr))
    key = key_along(dims[dim], axis, structure)
    index = index_along(dims[dim], axis.name, structure.sizes) if key is None else key
    parents = 1 if key is None or axis.within is None else structure.sizes[axis.within]
    order = np.argsort(index, kind="stable")
    order = order[int((index < 0).sum()) :]
    rows = weight.movedim(dim, 0).reshape(weight.shape[dim], -1)[torch.as_tensor(order, device=weight.device)]
    if axis.within is None:
        return rows.reshape(axis.size, -1)
    return rows.reshape(parents, axis.size, -1)
