"""Ceilings on costs, and filling a plan up to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
import numpy.typing as npt

from secateur.allocate.knobs import Knob
from secateur.cost import CostModel
from secateur.spec import SPARSITY, UNITS, Budget, BudgetError, Structure

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ceiling:
    """A cost that must not be exceeded."""

    budget: Budget
    cost: CostModel
    limit: int
    full: int


class Fit:
    """Prices choices of one level per knob against all ceilings."""

    def __init__(
        self,
        structure: Structure,
        knobs: Sequence[Knob],
        budgets: Sequence[Budget],
        shares: Mapping[str, float] | None = None,
    ) -> None:
        self.knobs = knobs
        given = shares or {}
        self.shares = [min(given.get(axis, 1.0) for axis, _ in knob.axes) for knob in knobs]
        """What each knob gives relative to the others."""
        self.ceilings = [_ceiling(structure, budget) for budget in budgets]
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

    def saved(self, steps: Sequence[int], number: int) -> float:
        """What the knob's next step down saves of the ceilings that are exceeded, in shares of these; of all, where
        none is."""
        now, then = self.sizes(steps), self.sizes([*steps[:number], steps[number] - 1, *steps[number + 1 :]])
        costs = [(ceiling.cost(now), ceiling.cost(then), ceiling.limit) for ceiling in self.ceilings]
        exceeded = [(before, after, limit) for before, after, limit in costs if before > limit] or costs
        return sum((before - after) / max(1, limit) for before, after, limit in exceeded)

    def demand_possible(self) -> None:
        """Raise BudgetError, naming the nearest possible, when the smallest network exceeds a ceiling."""
        smallest = self.sizes([0] * len(self.knobs))
        for ceiling in self.ceilings:
            least = ceiling.cost(smallest)
            if least > ceiling.limit:
                fraction = UNITS[ceiling.budget.unit].fraction
                nearest = f"{least / ceiling.full:.6g}" if fraction else str(least)
                raise BudgetError(
                    f"budget {ceiling.budget.unit}={ceiling.budget.value:g} cannot be met: with every axis at its "
                    f"floor {least:,} of {ceiling.full:,} remain; "
                    f"the nearest possible is {ceiling.budget.unit}={nearest}"
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


def _ceiling(structure: Structure, budget: Budget) -> Ceiling:
    if budget.unit == SPARSITY:
        raise BudgetError("budget sparsity counts single weights; it needs an element granularity, not whole channels")
    unit = UNITS[budget.unit]
    cost = CostModel(structure, unit.cost)
    full = cost(cost.full)
    limit = floor(budget.value * full + 1e-6) if unit.fraction else floor(budget.value)
    return Ceiling(budget, cost, limit, full)
