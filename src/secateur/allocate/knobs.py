"""What an allocator turns: one number per axis, or per set of axes whose sizes are tied, and a switch per block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from secateur.allocate.rounding import AUTO, faster_levels, multiple_of
from secateur.cost import LatencyModel
from secateur.spec import Axis, BudgetError, Scores, Structure

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """What every axis must respect; blocks, which stay or leave as a whole, are not limited."""

    round_to: int | str = 1
    """Kept counts are multiples of this, or those at which the measured time falls (`auto`); an axis that is not cut
    keeps its own size."""
    min_keep: int = 1
    """Indices that each axis keeps at least."""
    max_remove_ratio: float = 1.0
    """Share of each axis that may go at most."""

    def __post_init__(self) -> None:
        if self.round_to != AUTO:
            multiple_of(self.round_to)
        if self.min_keep < 1:
            raise BudgetError(f"min_keep must be at least 1, got {self.min_keep}")
        if not 0 <= self.max_remove_ratio <= 1:
            raise BudgetError(f"max_remove_ratio must be in [0, 1], got {self.max_remove_ratio}")


@dataclass(frozen=True)
class Knob:
    """Axes that shrink together: at level `t` axis `a` keeps `multiple * t` indices."""

    axes: tuple[tuple[str, int], ...]
    levels: Ints
    """Allowed levels, ascending; the last is the full one."""
    loss: Floats
    """Score lost per removed index in the step from `levels[i + 1]` down to `levels[i]`; never rises with i."""
    shares: Floats
    """The share of the whole that each level stands for: of an axis its kept share; a block is gone at 0, and stays
    from the share on at which it is among the most important of all blocks."""

    @property
    def full(self) -> int:
        """The level at which nothing is removed."""
        return int(self.levels[-1])

    def step_at(self, share: float) -> int:
        """The highest step (position in `levels`) that keeps at most this share; the lowest where none does."""
        return max(0, int(np.searchsorted(self.shares, share + 1e-9, side="right")) - 1)

    def sizes(self, level: int) -> Mapping[str, int]:
        """Axis sizes at a level."""
        return {axis: multiple * level for axis, multiple in self.axes}


def make_knobs(structure: Structure, scores: Scores, limits: Limits, latency: LatencyModel | None = None) -> list[Knob]:
    """One knob per scored axis or set of tied axes, in the order of the structure; then one per scored block, the most
    important first.

    latency: what `round_to="auto"` asks. A set of tied axes of which one has no score is left whole.
    """
    knobs: list[Knob] = []
    seen: set[str] = set()
    for axis in structure.axes:
        if axis.name not in scores.values or axis.name in seen or axis.role == "blocks":
            continue
        members = structure.tied.get(axis.name, ((axis.name, 1),))
        seen |= {name for name, _ in members}
        if all(name in scores.values for name, _ in members):
            knobs.append(_knob(members, structure, scores, limits, latency))
    return knobs + _switches(structure, scores)


def _switches(structure: Structure, scores: Scores) -> list[Knob]:
    scored = [block.axis for block in structure.blocks if block.axis in scores.values]
    found = {axis: float(scores.values[axis][0]) for axis in scored}
    ranked = sorted(found, key=lambda axis: -found[axis])  # of equal ones the earlier block stays
    return [
        Knob(((axis, 1),), np.array([0, 1]), np.array([found[axis]]), np.array([0.0, (rank + 1) / len(ranked)]))
        for rank, axis in enumerate(ranked)
    ]


def _knob(
    members: Sequence[tuple[str, int]],
    structure: Structure,
    scores: Scores,
    limits: Limits,
    latency: LatencyModel | None,
) -> Knob:
    name, per_level = members[0]
    full = structure.sizes[name] // per_level
    least = max(_floor(structure.axis[axis], factor, limits) for axis, factor in members)
    levels = [*range(min(least, full), full), full]
    if limits.round_to != AUTO:
        multiple = multiple_of(limits.round_to)
        levels = [t for t in levels if t == full or all(factor * t % multiple == 0 for _, factor in members)]
    elif latency is not None:
        levels = faster_levels(members, levels, latency)
    allowed = np.array(levels, dtype=np.int64)
    return Knob(tuple(members), allowed, _losses(members, allowed, scores), allowed / full)


def _floor(axis: Axis, factor: int, limits: Limits) -> int:
    kept = max(axis.least, limits.min_keep, ceil(axis.size * (1 - limits.max_remove_ratio) - 1e-9))
    return max(1, ceil(kept / factor))


def _losses(members: Sequence[tuple[str, int]], levels: Ints, scores: Scores) -> Floats:
    """Mean score of the indices that go in each step; made monotone so that steps come in order."""
    total = np.zeros(len(levels) - 1)
    count = np.zeros(len(levels) - 1)
    for axis, multiple in members:
        ranked = np.sort(np.atleast_2d(scores.values[axis]), axis=1)[:, ::-1].mean(axis=0)
        upto = np.concatenate([[0.0], np.cumsum(ranked)])
        total += np.diff(upto[levels * multiple])
        count += np.diff(levels * multiple)
    return np.minimum.accumulate(total / count)
