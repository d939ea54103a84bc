"""N:M as runs of consecutive columns of a weight's rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from secateur.sparse.layout import Layout
from secateur.sparse.pattern import Pattern
from secateur.sparse.select import keep_n_of_m

Runs = Sequence[tuple[int, int]]
"""Columns of each run, and how many of them stay in each row."""


def runs_of(pattern: Pattern, layout: Layout) -> Runs | None:
    """The runs of an N:M pattern along the inputs, place of the kernel by place of the kernel (see `by_place`); None
    where the pattern has none."""
    if pattern.keep_per_group is None:
        return None
    keep, size = pattern.keep_per_group
    tail = layout.inputs % size
    place = [(size, keep)] * (layout.inputs // size) + ([(tail, -(-keep * tail // size))] if tail else [])
    return place * layout.kernel


def by_place(layout: Layout) -> Tensor:
    """The columns of a layout's matrix in the order that has the inputs of one place of the kernel side by side."""
    return torch.arange(layout.columns).reshape(layout.inputs, layout.kernel).T.flatten()


def keep_in_runs(scores_RC: Tensor, runs: Runs) -> Tensor:
    """Mask (R, C): the highest scores of each run."""
    parts = scores_RC.split([size for size, _ in runs], dim=1)
    return torch.cat([keep_n_of_m(part, stay) for part, (_, stay) in zip(parts, runs, strict=True)], dim=1)
