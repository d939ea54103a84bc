"""The entries of a tensor that stay when its axes keep some of their indices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from secateur.spec import Plan
from secateur.spec.expr import (
    Expr,
    Kept,
    Sizes,
    axes_of,
    index_along,
    kept_given,
    kept_of,
    parents_needed,
)

BLOCK, BLOCK_ROWS = 2**20, 256


def kept_entries(tensor: torch.Tensor, dims: Sequence[Expr], plan: Plan) -> torch.Tensor:
    """The tensor without the entries that the plan removes; the tensor itself when it removes none.

    dims: one expression per dimension of the tensor.
    """
    kept, sizes, within = plan.arrays, plan.structure.sizes, plan.structure.within
    touched = [dim for dim, expr in enumerate(dims) if any(axis in kept for axis in axes_of(expr))]
    joint = [dim for dim in touched if parents_needed(dims[dim], kept, within)]
    for dim in joint:
        tensor = _select_jointly(tensor, dims, dim, plan)
    done = {*joint, *(_partner(dims, dim, kept, within) for dim in joint)}
    positions = {dim: kept_of(dims[dim], kept, sizes, within) for dim in touched if dim not in done}
    return _selected(
        tensor, {dim: _tensor(found, tensor.device) for dim, found in positions.items() if found is not None}
    )


def _selected(tensor: torch.Tensor, positions: Mapping[int, torch.Tensor]) -> torch.Tensor:
    """Entries at these positions, by dimension; of a large tensor row by row, so that nothing larger than the result is
    made on the way."""
    rows = positions.get(0)
    if rows is None or len(positions) == 1 or tensor.numel() <= BLOCK:
        for dim, found in positions.items():
            tensor = tensor.index_select(dim, found)
        return tensor
    shape = [len(positions[dim]) if dim in positions else size for dim, size in enumerate(tensor.shape)]
    made = tensor.new_empty(shape)
    for block, place in zip(rows.split(BLOCK_ROWS), made.split(BLOCK_ROWS), strict=True):
        place.copy_(_selected(tensor.index_select(0, block), {dim: at for dim, at in positions.items() if dim}))
    return made


def _partner(dims: Sequence[Expr], dim: int, kept: Kept, within: Mapping[str, str]) -> int:
    (parent,) = parents_needed(dims[dim], kept, within)
    return next(other for other, expr in enumerate(dims) if other != dim and parent in axes_of(expr))


def _select_jointly(tensor: torch.Tensor, dims: Sequence[Expr], dim: int, plan: Plan) -> torch.Tensor:
    """Select along `dim` with other indices for each index of the parent axis, which stands in another dimension."""
    kept, sizes, within = plan.arrays, plan.structure.sizes, plan.structure.within
    (parent,) = parents_needed(dims[dim], kept, within)
    partner = _partner(dims, dim, kept, within)
    rows = kept_of(dims[partner], kept, sizes, within)
    if rows is None:
        rows = np.arange(tensor.shape[partner])
    table = _table(dims[dim], kept, sizes, within, parent)
    columns = table[index_along(dims[partner], parent, sizes)[rows]]
    front = tensor.movedim((partner, dim), (0, 1))
    rows_RC = _tensor(rows, tensor.device)[:, None].expand(columns.shape)
    return front[rows_RC, _tensor(columns, tensor.device)].movedim((0, 1), (partner, dim))


def _table(expr: Expr, kept: Kept, sizes: Sizes, within: Mapping[str, str], parent: str) -> np.ndarray:
    rows = [kept_given(expr, kept, sizes, within, parent, index) for index in range(sizes[parent])]
    return np.stack(rows)


def _tensor(positions: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(positions)).to(device)


def removed_mask(shape: Sequence[int], dims: Sequence[Expr], plan: Plan, device: torch.device) -> torch.Tensor:
    """Boolean tensor that broadcasts to `shape`: True where the plan removes the entry along any of the dimensions.

    dims: one expression per dimension; `int` where the dimension stays whole.
    """
    kept, sizes, within = plan.arrays, plan.structure.sizes, plan.structure.within
    total = torch.zeros([1] * len(shape), dtype=torch.bool, device=device)
    for dim, expr in enumerate(dims):
        if not any(axis in kept for axis in axes_of(expr)):
            continue
        needed = parents_needed(expr, kept, within)
        if needed:
            (parent,) = needed
            partner = _partner(dims, dim, kept, within)
            table = np.ones((sizes[parent] + 1, shape[dim]), dtype=bool)
            for index, row in enumerate(_table(expr, kept, sizes, within, parent)):
                table[index, row] = False
            removed = table[index_along(dims[partner], parent, sizes)]
            view = _placed(removed if partner < dim else removed.T, len(shape), sorted((partner, dim)))
        else:
            gone = np.ones(shape[dim], dtype=bool)
            gone[kept_of(expr, kept, sizes, within)] = False
            view = _placed(gone, len(shape), [dim])
        total = total | _tensor(view, device)
    return total


def _placed(array: np.ndarray, rank: int, dims: list[int]) -> np.ndarray:
    shape = [1] * rank
    for dim, size in zip(dims, array.shape, strict=True):
        shape[dim] = size
    return array.reshape(shape)
