"""Scores of the dense network, for what is left of it: scored once, used in every iteration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from secateur.spec import Scores, Structure
from secateur.spec.plan import Indices

Kept = Mapping[str, Indices]


def left_of(scores: Scores, cuts: Iterable[Kept], structure: Structure) -> Scores | None:
    """Scores of the indices that these cuts, one after the other, have left; None where they do not fit the structure
    of what is left, whose axes may have been named anew."""
    values = dict(scores.values)
    for kept in cuts:
        for axis, indices in kept.items():
            if axis in values:
                values[axis] = _picked(values[axis], np.asarray(indices, dtype=np.int64))
    found = {axis.name: values.get(axis.name) for axis in structure.axes if axis.chosen}
    fits = all(of is not None and of.shape[-1] == structure.sizes[name] for name, of in found.items())
    return replace(scores, values={name: of for name, of in found.items() if of is not None}) if fits else None


def _picked(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Of `(size,)`, or of each row of `(parents, size)`."""
    if values.ndim == 1:
        return values[indices]
    return np.take_along_axis(values, np.broadcast_to(indices, (len(values), indices.shape[-1])), axis=1)
