"""Allocators: how much each axis gives so that the budget is met.

An allocator is a function from a `Fit` to one step per knob. It is called once; the steps that it returns must
respect every ceiling of the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np

from secateur.allocate.fit import Fit
from secateur.allocate.knobs import Knob
from secateur.spec import BudgetError, Registry

Allocator = Callable[[Fit], list[int]]

ALLOCATORS: Registry[Allocator] = Registry("allocators")


@ALLOCATORS.register("uniform", "the same share of every axis, and of the blocks")
def uniform(fit: Fit) -> list[int]:
    """The largest common keep ratio that fits, then single steps back, the axes that lost most first. Of the blocks
    that share stays, the most important ones."""
    ratios = sorted({share for knob in fit.knobs for share in knob.shares.tolist()})
    low, high = 0, len(ratios) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if fit.holds(_at_ratio(fit, ratios[middle])):
            low = middle
        else:
            high = middle - 1
    steps = _at_ratio(fit, ratios[low]) if ratios else []
    kept = [knob.shares[step] for knob, step in zip(fit.knobs, steps, strict=True)]
    return fit.fill(steps, np.argsort(kept, kind="stable").tolist())


def _at_ratio(fit: Fit, ratio: float) -> list[int]:
    return [knob.step_at(ratio) for knob in fit.knobs]


@ALLOCATORS.register("global", "the lowest scores of the whole network go, wherever they are")
def global_(fit: Fit) -> list[int]:
    """One threshold over all axes, by bisection over the sorted steps; then single steps back, the dearest first."""
    cuts = [
        (loss, -step, number) for number, knob in enumerate(fit.knobs) for step, loss in enumerate(knob.loss.tolist())
    ]
    cuts.sort()
    low, high = 0, len(cuts)
    while low < high:
        middle = (low + high) // 2
        if fit.holds(_after(fit, cuts[:middle])):
            high = middle
        else:
            low = middle + 1
    steps = _after(fit, cuts[:low])
    dearest = [knob.loss[step] if step < len(knob.loss) else -1.0 for knob, step in zip(fit.knobs, steps, strict=True)]
    return fit.fill(steps, np.argsort([-value for value in dearest], kind="stable").tolist())


def _after(fit: Fit, cuts: list[tuple[float, int, int]]) -> list[int]:
    steps = [len(knob.levels) - 1 for knob in fit.knobs]
    for _, minus_step, number in cuts:
        steps[number] = min(steps[number], -minus_step)
    return steps


@ALLOCATORS.register("knapsack", "what costs least score for what it saves goes first, priced exactly")
def knapsack(fit: Fit) -> list[int]:
    """What loses less score in all: cuts in the order of their price, or one threshold as in `global`. The greedy order
    is best where steps save unlike amounts; the threshold is not misled by steps that get cheap later on."""
    return min(_by_price(fit), global_(fit), key=lambda steps: _lost(fit, steps))


def _lost(fit: Fit, steps: list[int]) -> float:
    return sum(_loss_between(knob, step, len(knob.levels) - 1) for knob, step in zip(fit.knobs, steps, strict=True))


def _loss_between(knob: Knob, low: int, high: int) -> float:
    """Score lost by going from step `high` down to step `low`."""
    indices = np.diff(knob.levels[low : high + 1]) * sum(multiple for _, multiple in knob.axes)
    return float((knob.loss[low:high] * indices).sum())


def _by_price(fit: Fit) -> list[int]:
    """Greedily the cut that loses least for its share of what is saved of the ceilings that are exceeded; then single
    steps back, the dearest first. Steps of an axis cost more and more, and save less and less as its neighbours shrink,
    so a cut that was dearer than another stays so until it is looked at again. Where a single step saves nothing, as
    within a stair of measured time, a cut takes as many as it needs to."""
    steps = [len(knob.levels) - 1 for knob in fit.knobs]
    heap = [(*cut, number) for number in range(len(steps)) if (cut := _next_cut(fit, steps, number)) is not None]
    heapify(heap)
    while heap and not fit.holds(steps):
        before, _, number = heappop(heap)
        now = _next_cut(fit, steps, number)
        if now is None:
            continue
        if now[0] > before:
            heappush(heap, (*now, number))
            continue
        steps[number] = now[1]
        following = _next_cut(fit, steps, number)
        if following is not None:
            heappush(heap, (*following, number))
    dearest = [knob.loss[step] if step < len(knob.loss) else -1.0 for knob, step in zip(fit.knobs, steps, strict=True)]
    return fit.fill(steps, np.argsort([-value for value in dearest], kind="stable").tolist())


def _next_cut(fit: Fit, steps: list[int], number: int) -> tuple[float, int] | None:
    """Score lost over share saved by the knob's next cut, and the step that it leads to; None at the lowest. Infinite
    where no cut saves anything."""
    start = steps[number]
    for step in range(start - 1, -1, -1):
        saved = fit.saved(steps, number, step)
        if saved > 0:
            return _loss_between(fit.knobs[number], step, start) / saved, step
    return None if start == 0 else (inf, start - 1)


@ALLOCATORS.register("adaptive", "each axis gives its share: from sensitivity curves, spectral entropy, or as given")
def adaptive(fit: Fit) -> list[int]:
    """The smallest common strength at which every axis, cut by strength times its share (at most 99 %), meets the
    budget; then single steps back, the axes that lost most for their share first."""
    largest = max(fit.shares, default=0.0)
    low, high = 0.0, 0.99 / min((share for share in fit.shares if share > 0), default=1.0)
    if largest <= 0 or not fit.holds(_at_strength(fit, high)):
        raise BudgetError("the shares cannot meet the budget, even with 99 % of each axis gone; give more axes a share")
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if fit.holds(_at_strength(fit, middle)) else (middle, high)
    steps = _at_strength(fit, high)
    lost = [
        (1 - knob.shares[step]) / share if share > 0 else -1.0
        for knob, step, share in zip(fit.knobs, steps, fit.shares, strict=True)
    ]
    return fit.fill(steps, np.argsort([-value for value in lost], kind="stable").tolist())


def _at_strength(fit: Fit, strength: float) -> list[int]:
    return [knob.step_at(1 - min(0.99, strength * share)) for knob, share in zip(fit.knobs, fit.shares, strict=True)]
