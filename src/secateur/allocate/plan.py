"""From scores and a budget to a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from secateur.allocate.allocators import ALLOCATORS, Allocator
from secateur.allocate.fit import NEEDS_TIMES, Fit
from secateur.allocate.knobs import Knob, Limits, make_knobs
from secateur.allocate.merge import check_policy, chosen
from secateur.allocate.rounding import AUTO
from secateur.allocate.shares import shares_by_axis
from secateur.cost import LatencyModel
from secateur.spec import UNITS, BudgetError, Plan, Scores, Structure, parse_budgets
from secateur.spec.budget import LATENCY_MS, Budgets
from secateur.spec.plan import Indices


def needs_times(budget: Budgets, round_to: int | str) -> bool:
    """Whether allocation asks how long operators take."""
    units = [UNITS.get(item.unit) for item in parse_budgets(budget)]
    return round_to == AUTO or any(unit is not None and unit.cost == LATENCY_MS for unit in units)


def allocate(
    structure: Structure,
    scores: Scores,
    budget: Budgets,
    *,
    allocator: str | Allocator = "uniform",
    merge: str = "score",
    shares: Mapping[str, float] | None = None,
    round_to: int | str = 1,
    min_keep: int = 1,
    max_remove_ratio: float = 1.0,
    latency: LatencyModel | None = None,
) -> Plan:
    """The plan that keeps the highest scores within every given budget, never over and within one unit of the finest
    axis.

    merge: how votes of several producers become one cut, `score`, `and` or `or` (`allocate.merge`).
    shares: what each axis gives relative to the others, for the `adaptive` allocator, by axis, module or `re:` pattern.
    round_to: multiple of kept counts, the name of a device profile, or `auto`: counts at which the measured time falls
    (`allocate.rounding`).
    latency: for `auto` and budgets in time, `secateur.cost.latency_model(model, example_inputs)`.
    Raises BudgetError when a budget cannot be met, naming the nearest possible.
    """
    budgets = parse_budgets(budget)
    if round_to == AUTO and latency is None:
        raise BudgetError(f"round_to='auto' {NEEDS_TIMES}")
    knobs = make_knobs(structure, scores, Limits(round_to, min_keep, max_remove_ratio), latency)
    check_policy(merge)
    fit = Fit(structure, knobs, budgets, shares_by_axis(structure, shares or {}), latency)
    fit.demand_possible()
    steps = (ALLOCATORS.get(allocator) if isinstance(allocator, str) else allocator)(fit)
    made_by = {
        "criterion": scores.criterion,
        "allocator": allocator if isinstance(allocator, str) else getattr(allocator, "__name__", "custom"),
        "budget": ",".join(f"{item.unit}={item.value:g}" for item in budgets),
        "merge": merge,
        "round_to": round_to,
        "seed": scores.seed,
    }
    plan = Plan(structure, kept_at(structure, scores, knobs, steps, merge), made_by)
    if latency is None:
        return plan
    predicted = {"predicted_ms": latency.at(plan.sizes), "predicted_before_ms": latency.at({})}
    return replace(plan, made_by={**made_by, **predicted})


def kept_at(
    structure: Structure, scores: Scores, knobs: Sequence[Knob], steps: Sequence[int], merge: str = "score"
) -> dict[str, Indices]:
    """What stays of each axis that shrinks, with every knob at its step."""
    return {
        axis: chosen(scores, axis, size, merge)
        for knob, step in zip(knobs, steps, strict=True)
        for axis, size in knob.sizes(int(knob.levels[step])).items()
        if size < structure.sizes[axis]
    }
