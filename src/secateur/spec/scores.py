"""How much each index of each axis matters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Importance per index: the lowest goes first. Axes without an entry stay whole, with the reason in `skipped`."""

    criterion: str
    values: Mapping[str, np.ndarray]
    """Axis -> `(size,)`, or `(parent size, size)` for an axis with a parent; float64, comparable between axes."""
    members: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict[str, tuple[np.ndarray, ...]])
    """Axis -> the scores of each of its producers by itself, of the shape of `values`, for merging by votes; only where
    several layers produce the axis and the criterion can tell them apart."""
    skipped: Mapping[str, str] = field(default_factory=dict[str, str])
    seed: int = 0
