"""Pruning in several steps, with something done to the network in between (retraining, most of the time)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import floor, prod
from typing import Any, cast

from torch import nn

from secateur.cost import CostModel
from secateur.pipeline import PruneConfig, PruneResult, prune
from secateur.spec import SPARSITY, UNITS, Budget, BudgetError, parse_budgets
from secateur.spec.budget import LATENCY_MS, Budgets
from secateur.spec.structure import channel_terms

SCHEDULES = ("linear", "geometric")
_ABSOLUTE = {
    "channels": "channel_count",
    "params": "param_count",
    "macs": "mac_count",
    "activations": "activation_bytes",
    "latency": LATENCY_MS,
}


def prune_in_steps(
    model: nn.Module,
    example_inputs: Any,
    *,
    budget: Budgets,
    steps: int,
    schedule: str = "geometric",
    between: Callable[[nn.Module], object] | None = None,
    data: Iterable[Any] | None = None,
    config: PruneConfig | None = None,
) -> list[PruneResult]:
    """Prune to the budget in `steps` steps; the results in order, the last one within the budget.

    schedule: the share of the cost that is left falls by equal amounts (`linear`) or by equal factors (`geometric`).
    between: called with the smaller model after each step but the last, to retrain it in place.
    data: batches for criteria that look at data; iterated once per step, so give a list or a loader.

    Counts are rounded to `round_to` on the last step only. Raises BudgetError as `prune` does, and for an unknown
    schedule.
    """
    if schedule not in SCHEDULES or steps < 1:
        raise BudgetError(f"got {steps} steps on a {schedule!r} schedule; expected 1 or more, {' or '.join(SCHEDULES)}")
    settings = config or PruneConfig()
    budgets = parse_budgets(budget)
    results: list[PruneResult] = []
    for step in range(1, steps + 1):
        own = settings if step == steps else replace(settings, round_to=1)
        ceilings = [_ceiling(item, step / steps, schedule, results) for item in budgets]
        results.append(prune(model, example_inputs, budget=ceilings, data=data, config=own))
        model = results[-1].model
        if between is not None and step < steps:
            between(model)
    return results


def _share(final: float, progress: float, schedule: str) -> float:
    """What is left of the cost after this part of the steps."""
    return 1 - (1 - final) * progress if schedule == "linear" else final**progress


def _ceiling(budget: Budget, progress: float, schedule: str, results: Sequence[PruneResult]) -> Budget:
    """The budget after this part of the steps: a share of what the original cost, as an absolute ceiling from the
    second step on. Of single weights it is always a share of all of them."""
    if budget.unit == SPARSITY:
        return Budget(SPARSITY, 1 - _share(1 - budget.value, progress, schedule))
    unit = UNITS[budget.unit]
    if not unit.fraction:
        raise BudgetError(f"budget {budget.unit}: steps need a share of the cost, such as macs=0.5")
    share = _share(budget.value, progress, schedule)
    if not results:
        return Budget(budget.unit, share)
    if unit.cost == LATENCY_MS:
        return Budget(LATENCY_MS, share * cast(float, results[0].plan.made_by["predicted_before_ms"]))
    cost = CostModel(results[0].structure, unit.cost)
    gone = sum(_single_channels(result) for result in results) if unit.name == "channels" else 0
    return Budget(_ABSOLUTE[unit.name], floor(share * cost(cost.full) + 1e-6) - gone)


def _single_channels(result: PruneResult) -> int:
    """Channels of axes that are down to one index: the next structure does not count them. (Blocks it does.)"""
    structure, sizes = result.structure, result.plan.sizes
    chosen = [axis for axis in structure.axes if axis.chosen]
    terms = channel_terms(structure.axes, structure.homes)
    return sum(
        prod(sizes[name] for name in term.axes)
        for axis, term in zip(chosen, terms, strict=True)
        if axis.role != "blocks" and sizes[axis.name] == 1
    )
