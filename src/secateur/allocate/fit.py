"""Ceilings on costs, and filling a plan up to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Protocol

import numpy as np
import numpy.typing as npt

from secateur.allocate.knobs import Knob
from secateur.cost import CostModel
from secateur.spec import SPARSITY, UNITS, Budget, BudgetError, Structure
from secateur.spec.budget import LATENCY_MS

Ints = npt.NDArray[np.int64]

NEEDS_TIMES = "is in measured time; prune() measures it, to allocate() give latency=secateur.cost.latency_model(...)"


ROUNDING = 1e-6
"""What a ceiling may be off by, because it is a floating point number: costs are counts, or milliseconds."""


class Cost(Protocol):
    """A cost of a network as a function of its axis sizes, in the order of the structure's axes."""

    full: Ints
    """Sizes when nothing is removed."""

    def __call__(self, sizes: Ints) -> float:
        """The cost at these sizes."""
        ...


@dataclass(frozen=True)
class Ceiling:
    """A cost that must not be exceeded."""

    budget: Budget
    cost: Cost
    limit: float
    full: float


class Fit:
    """Prices choices of one level per knob against all ceilings."""

    def __init__(
        self,
        structure: Structure,
        knobs: Sequence[Knob],
        budgets: Sequence[Budget],
        shares: Mapping[str, float] | None = None,
        latency: Cost | None = None,
    ) -> None:
        self.knobs = knobs
        given = shares or {}
        self.shares = [min(given.get(axis, 1.0) for axis, _ in knob.axes) for knob in knobs]
        """What each knob gives relative to the others."""
        self.ceilings = [_ceiling(structure, budget, latency) for budget in budgets]
        names = {axis.name: number for number, axis in enumerate(structure.axes)}
        self._full: Ints = np.array([axis.size for axis in structure.axes], dtype=np.int64)
        self._places = [[(names[axis], multiple) for axis, multiple in knob.axes] for knob in knobs]

    def sizes(self, steps: Sequence[int]) -> Ints:
        """Axis sizes when knob k stands at `levels[steps[k]]`."""
        sizes = self._full.copy()
        for knob, places, step in zip(self.knobs, self._places, steps, strict=True):
            for position, multiple in places:
                sizes[position] = multiple * knob.levels[step]
        return sizes

    def holds(self, steps: Sequence[int]) -> bool:
        """Whether no ceiling is exceeded."""
        sizes = self.sizes(steps)
        return all(ceiling.cost(sizes) <= ceiling.limit for ceiling in self.ceilings)

    def saved(self, steps: Sequence[int], number: int, step: int) -> float:
        """What moving the knob to this step saves of the ceilings that are exceeded, in shares of these; of all, where
        none is."""
        now, then = self.sizes(steps), self.sizes([*steps[:number], step, *steps[number + 1 :]])
        costs = [(ceiling.cost(now), ceiling.cost(then), ceiling.limit) for ceiling in self.ceilings]
        exceeded = [(before, after, limit) for before, after, limit in costs if before > limit] or costs
        return sum((before - after) / limit for before, after, limit in exceeded)

    def demand_possible(self) -> None:
        """Raise BudgetError, naming the nearest possible, when the smallest network exceeds a ceiling."""
        smallest = self.sizes([0] * len(self.knobs))
        for ceiling in self.ceilings:
            least = ceiling.cost(smallest)
            if least > ceiling.limit:
                unit = ceiling.budget.unit
                nearest = _nearest(least / ceiling.full if UNITS[unit].fraction else least)
                raise BudgetError(
                    f"budget {unit}={ceiling.budget.value:g} cannot be met: with every axis at its "
                    f"floor {_shown(least)} of {_shown(ceiling.full)} remain; "
                    f"the nearest possible is {unit}={nearest}"
                )

    def fill(self, steps: list[int], order: Sequence[int]) -> list[int]:
        """Give back single steps while they fit, in this order of knobs, until none fits: the budget is then met to
        within one step of every axis."""
        steps = list(steps)
        open_knobs = [number for number in order if steps[number] < len(self.knobs[number].levels) - 1]
        while open_knobs:
            remaining: list[int] = []
            for number in open_knobs:
                steps[number] += 1
                if not self.holds(steps):
                    steps[number] -= 1
                elif steps[number] < len(self.knobs[number].levels) - 1:
                    remaining.append(number)
            open_knobs = remaining
        return steps


def _ceiling(structure: Structure, budget: Budget, latency: Cost | None) -> Ceiling:
    if budget.unit == SPARSITY:
        raise BudgetError("budget sparsity counts single weights; it needs an element granularity, not whole channels")
    unit = UNITS[budget.unit]
    if unit.cost != LATENCY_MS:
        cost: Cost = CostModel(structure, unit.cost)
    elif latency is not None:
        cost = latency
    else:
        raise BudgetError(f"budget {unit.name} {NEEDS_TIMES}")
    full = cost(cost.full)
    return Ceiling(budget, cost, (budget.value * full if unit.fraction else budget.value) + ROUNDING, full)


def _shown(cost: float) -> str:
    return f"{cost:,}" if isinstance(cost, int) else f"{cost:.4g}"


def _nearest(value: float) -> str:
    """A budget that this cost fits: six digits, rounded up."""
    if isinstance(value, int) or value <= 0:
        return str(value)
    scale = 10.0 ** (5 - floor(log10(value)))
    return f"{ceil(round(value * scale, 3)) / scale:.6g}"
