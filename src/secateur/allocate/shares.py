"""Shares for the `adaptive` allocator: how much each axis gives, relative to the others.

At strength `s` an axis with share `w` loses `s * w` of its indices (at most 99 %); the allocator finds the strength
that meets the budget.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from secateur.spec import BudgetError, Structure
from secateur.spec.errors import nearest

Curve = Sequence[tuple[float, float]]
"""(removed share, loss in the metric) points of one axis, cut alone."""


def shares_by_axis(structure: Structure, given: Mapping[str, float]) -> dict[str, float]:
    """Shares per axis from shares by axis name, module path or `re:` pattern; axes that nothing names have share one.

    Raises BudgetError for a share below zero and for a name that matches nothing.
    """
    shares = {axis.name: 1.0 for axis in structure.axes}
    for name, share in given.items():
        if not share >= 0:
            raise BudgetError(f"share of {name!r}: got {share}, expected a number from 0 (stays whole) up")
        matched = [axis for axis in shares if _matches(axis, name)]
        if not matched:
            raise BudgetError(f"share of {name!r} matches no axis; the nearest are: {nearest(name, list(shares))}")
        shares |= dict.fromkeys(matched, float(share))
    return shares


def _matches(axis: str, name: str) -> bool:
    if name.startswith("re:"):
        return re.search(name[3:], axis) is not None
    return axis == name or axis.startswith(f"{name}.")


def shares_from_curves(curves: Mapping[str, Curve], *, tolerance: float) -> dict[str, float]:
    """The largest removed share at which each axis, cut alone, loses at most `tolerance`; linear between the points."""
    return {axis: _tolerated(sorted(curve), tolerance) for axis, curve in curves.items()}


def _tolerated(curve: Sequence[tuple[float, float]], tolerance: float) -> float:
    best, before = 0.0, (0.0, 0.0)
    for ratio, loss in curve:
        if loss <= tolerance:
            best = ratio
        elif before[1] <= tolerance:
            gap = (tolerance - before[1]) / (loss - before[1])
            return max(best, before[0] + gap * (ratio - before[0]))
        before = (ratio, loss)
    return best


def shares_from_entropies(entropies: Mapping[str, float]) -> dict[str, float]:
    """Entropy Induced Pruning Framework for CNNs, 2024: the share of a layer is inverse to its AFIE."""
    largest = max(entropies.values(), default=0.0)
    return {axis: largest / entropy if entropy > 0 else 1.0 for axis, entropy in entropies.items()}
