"""Merging the votes of several producers into one cut.

Where an addition couples layers, each has its own opinion on which channels matter least. `and` removes what every
producer votes to remove, `or` what any of them does, `score` cuts once by the mean of the normalised scores. `and`
removes too little and `or` too much for a given number of votes, so `and` is topped up by score, and `or` asks for
fewer votes and is topped up by score: every policy keeps exactly the number of indices that the budget allows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from secateur.spec import BudgetError, Scores
from secateur.spec.errors import nearest
from secateur.spec.plan import Indices

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

POLICIES = ("score", "and", "or")


def check_policy(merge: str) -> None:
    """Raise BudgetError for an unknown merge policy."""
    if merge not in POLICIES:
        raise BudgetError(f"unknown merge policy {merge!r}; did you mean: {nearest(merge, list(POLICIES))}?")


def votes(scores: Floats, count: int) -> Mask:
    """What a producer votes to remove: its `count` lowest scores; of equal ones the higher index goes first."""
    removed = np.ones(len(scores), dtype=bool)
    removed[np.argsort(-scores, kind="stable")[: len(scores) - count]] = False
    return removed


def merged(ballots: Sequence[Mask], merge: str) -> Mask:
    """What is removed: the intersection of the votes for `and`, their union for `or`."""
    return np.logical_and.reduce(ballots) if merge == "and" else np.logical_or.reduce(ballots)


def chosen(scores: Scores, axis: str, count: int, merge: str) -> Indices:
    """The `count` indices of an axis that stay, in ascending order; per row for an axis with a parent."""
    values = scores.values[axis]
    members = scores.members.get(axis, ())
    if values.ndim == 2:
        return tuple(
            _kept(row, [member[number] for member in members], count, merge) for number, row in enumerate(values)
        )
    return _kept(values, members, count, merge)


def _kept(values: Floats, members: Sequence[Floats], count: int, merge: str) -> tuple[int, ...]:
    first = np.zeros(len(values), dtype=bool)
    if merge != "score" and len(members) > 1:
        first = _agreed(members, len(values) - count, merge)
    # What is agreed on goes before anything else, the rest by the merged score; of equal ones the lower index stays.
    order = np.lexsort((np.arange(len(values)), -values, first))
    return tuple(int(index) for index in np.sort(order[:count]))


def _agreed(members: Sequence[Floats], count: int, merge: str) -> Mask:
    """What the policy removes by itself: at most `count` indices."""
    if merge == "and":
        return merged([votes(member, count) for member in members], merge)
    for asked in range(count, -1, -1):
        removed = merged([votes(member, asked) for member in members], merge)
        if removed.sum() <= count:
            return removed
    return np.zeros(len(members[0]), dtype=bool)
