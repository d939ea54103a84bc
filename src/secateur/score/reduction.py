"""Sums of a tensor's entries along one axis of the structure, wherever the axis stands in its dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from secateur.spec import Axis, Structure
from secateur.spec.expr import Expr, axes_of, index_along


def sum_along(values: torch.Tensor, dims: Sequence[Expr], axis: Axis, structure: Structure) -> torch.Tensor:
    """Sum of `values` over everything but the axis: `(size,)`, or `(parent size, size)` for an axis with a parent;
    float64.

    dims: one expression per dimension of `values`; a dimension that was summed may have size one instead.
    """
    holding = [dim for dim, expr in enumerate(dims) if axis.name in axes_of(expr)]
    return torch.stack([_sum_at(values, dims, axis, structure, dim) for dim in holding]).sum(0)


def _sum_at(values: torch.Tensor, dims: Sequence[Expr], axis: Axis, structure: Structure, dim: int) -> torch.Tensor:
    if dims[dim] == axis.name and axis.within is None:
        return _reduced(values, [dim])
    index = index_along(dims[dim], axis.name, structure.sizes)
    if axis.within is None:
        return _scatter(_reduced(values, [dim]), index, axis.size)
    parents = structure.sizes[axis.within]
    own_parent = index_along(dims[dim], axis.within, structure.sizes)
    if (own_parent[index >= 0] >= 0).all():
        key = np.where(index >= 0, own_parent * axis.size + index, -1)
        return _scatter(_reduced(values, [dim]), key, parents * axis.size).reshape(parents, axis.size)
    partner = next(d for d, expr in enumerate(dims) if d != dim and axis.within in axes_of(expr))
    outer = index_along(dims[partner], axis.within, structure.sizes)
    table = _reduced(values, [partner, dim])
    both = (outer[:, None] >= 0) & (index[None, :] >= 0)
    key = np.where(both, outer[:, None] * axis.size + index[None, :], -1)
    flat = table if partner < dim else table.T
    return _scatter(flat.reshape(-1), key.reshape(-1), parents * axis.size).reshape(parents, axis.size)


def _reduced(values: torch.Tensor, keep: Sequence[int]) -> torch.Tensor:
    others = [dim for dim in range(values.dim()) if dim not in keep]
    return (values.sum(others) if others else values).to(torch.float64)


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
    index = index_along(dims[dim], axis.name, structure.sizes)
    parents = 1
    if axis.within is not None and axis.within in axes_of(dims[dim]):
        parents = structure.sizes[axis.within]
        index = np.where(index >= 0, index_along(dims[dim], axis.within, structure.sizes) * axis.size + index, -1)
    order = np.argsort(index, kind="stable")
    order = order[int((index < 0).sum()) :]
    rows = weight.movedim(dim, 0).reshape(weight.shape[dim], -1)[torch.as_tensor(order, device=weight.device)]
    if axis.within is None:
        return rows.reshape(axis.size, -1)
    return rows.reshape(parents, axis.size, -1)
