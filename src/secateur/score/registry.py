"""Criteria by name.

A criterion is a function from a `Question` to one tensor of scores per axis: `(size,)`, or `(parent size, size)`
where the axis has a parent. It is called once per scoring. Lower scores are cut first; scores of different axes are
compared as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from secateur.score.question import Question
from secateur.spec import Registry

Criterion = Callable[[Question], Mapping[str, torch.Tensor]]

CRITERIA: Registry[Criterion] = Registry("criteria")


T = TypeVar("T")


def needs(*kinds: str) -> Callable[[T], T]:
    """Decorator: the criterion reads these statistics of data (see `score.measuring`; of single weights
    `sparse.measuring`, and `batches` for the data itself)."""

    def mark(criterion: T) -> T:
        criterion.needs = frozenset(kinds)  # type: ignore[attr-defined]
        return criterion

    return mark
