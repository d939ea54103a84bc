"""Shares for the `adaptive` allocator: how much each axis gives, relative to the others.

At strength `s` an axis with share `w` loses `s * w` of its indices (at most 99 %); the allocator finds the strength
that meets the budget.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

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


LEVEL = 0.9
"""Each level of a tensor keeps this share of the one before (SPDY, 2022)."""
LEVELS = 44
"""The last one keeps one percent."""
BUCKETS = 10_000
"""Into which the weights that stay are counted."""


def shares_that_lose_least(curves: Mapping[str, Curve], sizes: Mapping[str, int], sparsity: float) -> dict[str, float]:
    """What each weight tensor gives so that `sparsity` of all their weights goes and the losses of the curves, added
    up, are least: dynamic programming over levels of each tensor (SPDY: Finding Accurate Pruning with Speedup
    Guarantees, 2022, without its search).

    sizes: number of weights of each tensor that has a curve. Curves are linear between their points and never fall.
    Raises BudgetError where the levels do not reach the sparsity.
    """
    if not 0 < sparsity < 1:
        raise BudgetError(f"sparsity {sparsity}: the share that goes of all weights must be between 0 and 1")
    kept = np.array([1.0, *(LEVEL**level for level in range(1, LEVELS + 1))])
    total = sum(sizes[name] for name in curves)
    least = np.zeros(BUCKETS + 1)
    """What the tensors up to here lose at least, by how many buckets they fill at most."""
    choices: list[tuple[np.ndarray, np.ndarray]] = []
    for name, curve in curves.items():
        filled = np.ceil(kept * sizes[name] / (total * (1 - sparsity)) * BUCKETS).astype(int)
        losses = _losses_at(1 - kept, sorted(curve))
        best, chosen = np.full(BUCKETS + 1, np.inf), np.zeros(BUCKETS + 1, dtype=int)
        for level in np.flatnonzero(filled <= BUCKETS):
            with_it = np.full(BUCKETS + 1, np.inf)
            with_it[filled[level] :] = least[: BUCKETS + 1 - filled[level]] + losses[level]
            chosen[with_it < best] = level
            best = np.minimum(best, with_it)
        least = best
        choices.append((chosen, filled))
    if not np.isfinite(least[-1]):
        raise BudgetError(f"sparsity {sparsity:g}: tensors give {1 - kept[-1]:.2f} of their weights at most; give less")
    shares: dict[str, float] = {}
    bucket = BUCKETS
    for name, (chosen, filled) in zip(reversed(list(curves)), reversed(choices), strict=True):
        level = chosen[bucket]
        shares[name] = float(1 - kept[level])
        bucket -= int(filled[level])
    return {name: shares[name] for name in curves}


def _losses_at(gone: np.ndarray, curve: Curve) -> np.ndarray:
    """The curve's losses at these shares; beyond its last point along its last stretch."""
    at, lost = np.array([0.0, *(point[0] for point in curve)]), np.array([0.0, *(point[1] for point in curve)])
    lost = np.maximum.accumulate(lost)
    slope = (lost[-1] - lost[-2]) / (at[-1] - at[-2])
    return np.interp(gone, at, lost) + np.maximum(gone - at[-1], 0) * slope


def shares_from_entropies(entropies: Mapping[str, float]) -> dict[str, float]:
    """Entropy Induced Pruning Framework for CNNs, 2024: the share of a layer is inverse to its AFIE."""
    largest = max(entropies.values(), default=0.0)
    return {axis: largest / entropy if entropy > 0 else 1.0 for axis, entropy in entropies.items()}
