"""SparseGPT: one sweep over the columns of a weight, each error passed on to the columns on its right."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from secateur.sparse.second_order.runs import Runs
from secateur.sparse.select import keep_highest, keep_n_of_m

BLOCK = 128
"""Columns within which weights are chosen together."""


def sweep(hessian_CC: Tensor, values_RC: Tensor, remove: int, *, runs: Runs | None = None) -> tuple[Tensor, Tensor]:
    """Mask and values (R, C) of SparseGPT (2023, algorithm 1).

    remove: how many weights in all; every block of columns loses its share of them, so that the total is exact.
    runs: of each run of columns so many stay in each row instead, chosen when the sweep reaches the run, and `remove`
    says nothing. Ties keep the weight that comes first. The Hessian is positive definite (the paper adds 1 % of the
    mean of its diagonal, which is left to the caller).
    """
    values, kept = values_RC.clone(), torch.ones_like(values_RC, dtype=torch.bool)
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian_CC)), upper=True)
    gone = 0
    for start, stop, stay in _blocks(values.shape[1], runs):
        scores = (values[:, start:stop] / upper.diagonal()[start:stop]) ** 2
        if stay is None:
            goal = round(remove * stop / values.shape[1])
            (kept[:, start:stop],) = keep_highest([scores], goal - gone)
            gone = goal
        else:
            kept[:, start:stop] = keep_n_of_m(scores, stay)
        errors = _freeze_(values[:, start:stop], kept[:, start:stop], upper[start:stop, start:stop])
        values[:, stop:] -= errors @ upper[start:stop, stop:]
    return kept, values


def _blocks(columns: int, runs: Runs | None) -> Iterator[tuple[int, int, int | None]]:
    """First column, the one after the last, and how many stay in each row, where that is said."""
    if runs is None:
        for start in range(0, columns, BLOCK):
            yield start, min(start + BLOCK, columns), None
        return
    start = 0
    for size, stay in runs:
        yield start, start + size, stay
        start += size


def _freeze_(values: Tensor, kept: Tensor, upper: Tensor) -> Tensor:
    """Zero what is not kept, column by column, the columns on its right making up for it; returns the errors that
    columns further on make up for."""
    errors = torch.empty_like(values)
    for column in range(values.shape[1]):
        errors[:, column] = values[:, column].masked_fill(kept[:, column], 0) / upper[column, column]
        values[:, column:] -= errors[:, column, None] * upper[column, column:]
        values[:, column].masked_fill_(~kept[:, column], 0)
    return errors
