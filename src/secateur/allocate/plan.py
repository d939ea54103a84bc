"""From scores and a budget to a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secateur.allocate.allocators import ALLOCATORS, Allocator
from secateur.allocate.fit import Fit
from secateur.allocate.knobs import Limits, kept_indices, make_knobs
from secateur.spec import Budget, Plan, Scores, Structure, parse_budgets
from secateur.spec.plan import Indices


def allocate(
    structure: Structure,
    scores: Scores,
    budget: Budget | Mapping[str, float] | str | Sequence[str],
    *,
    allocator: str | Allocator = "uniform",
    round_to: int = 1,
    min_keep: int = 1,
    max_remove_ratio: float = 1.0,
) -> Plan:
    """The plan that keeps the highest scores within every given budget, never over and within one unit of the finest
    axis.

    Raises BudgetError when a budget cannot be met, naming the nearest possible.
    """
    budgets = parse_budgets(budget if isinstance(budget, Budget | Mapping | str) else list(budget))
    knobs = make_knobs(structure, scores, Limits(round_to, min_keep, max_remove_ratio))
    fit = Fit(structure, knobs, budgets)
    fit.demand_possible()
    steps = (ALLOCATORS.get(allocator) if isinstance(allocator, str) else allocator)(fit)
    kept: dict[str, Indices] = {}
    for knob, step in zip(knobs, steps, strict=True):
        for axis, size in knob.sizes(int(knob.levels[step])).items():
            if size < structure.sizes[axis]:
                kept[axis] = kept_indices(scores.values[axis], size)
    made_by = {
        "criterion": scores.criterion,
        "allocator": allocator if isinstance(allocator, str) else getattr(allocator, "__name__", "custom"),
        "budget": ",".join(f"{item.unit}={item.value:g}" for item in budgets),
        "round_to": round_to,
        "seed": scores.seed,
    }
    return Plan(structure, kept, made_by)
