"""What an iteration tries: for each block of the network the least cut by which it alone saves what is asked for, and a
cut of all blocks together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secateur.allocate import ALLOCATORS
from secateur.allocate.fit import Cost, Fit
from secateur.allocate.knobs import Knob, Limits, make_knobs
from secateur.allocate.plan import kept_at
from secateur.allocate.rounding import multiple_of
from secateur.cost import LatencyModel, network_costs
from secateur.spec import Budget, BudgetError, Plan, Scores, Structure
from secateur.spec.budget import LATENCY_MS
from secateur.spec.plan import Indices


@dataclass(frozen=True)
class Goal:
    """A cost of the network, the dense one's, and what it is to become."""

    unit: str
    """Of an absolute budget."""
    dense: float
    limit: float


@dataclass(frozen=True)
class Proposal:
    """A cut of one block, or of all."""

    block: str
    """The axis, the first of those that are tied; or a name for all of them."""
    before: int
    after: int
    plan: Plan
    costs: Mapping[str, float]
    """Of the network that it makes."""

    @staticmethod
    def of_all(name: str, plan: Plan, latency: LatencyModel | None = None) -> Proposal:
        """A cut of many blocks; its sizes are the sums of theirs."""
        before, after = sum(plan.structure.sizes.values()), sum(plan.sizes.values())
        return Proposal(name, before, after, plan, costs_of(plan, latency))


ALL_BLOCKS = "all-blocks"
"""The name of the cut of all blocks together."""
_ABSOLUTE = {"params": "param_count", "macs": "mac_count", "activations": "activation_bytes", "latency": LATENCY_MS}


def demand_units(budgets: Sequence[Budget]) -> None:
    """Raise BudgetError for a unit that a search cannot go down in."""
    for budget in budgets:
        if budget.unit not in (*_ABSOLUTE, *_ABSOLUTE.values(), "size_bytes"):
            raise BudgetError(
                f"budget {budget.unit}: a search goes down in {', '.join((*_ABSOLUTE, *_ABSOLUTE.values()))} or "
                "size_bytes"
            )


def goals_of(budgets: Sequence[Budget], structure: Structure, latency: Cost | None) -> tuple[Goal, ...]:
    """The budgets in absolute numbers."""
    goals: list[Goal] = []
    for budget in budgets:
        ceiling = Fit(structure, [], [budget], latency=latency).ceilings[0]
        goals.append(Goal(_ABSOLUTE.get(budget.unit, budget.unit), ceiling.full, ceiling.limit))
    return tuple(goals)


def costs_now(goals: Sequence[Goal], structure: Structure, latency: Cost | None) -> list[float]:
    """What the network costs now, in the unit of each goal."""
    return [Fit(structure, [], [Budget(goal.unit, 1)], latency=latency).ceilings[0].full for goal in goals]


def exceeded(goals: Sequence[Goal], costs: Sequence[float]) -> list[int]:
    """Numbers of the goals that are not reached."""
    return [number for number, (goal, cost) in enumerate(zip(goals, costs, strict=True)) if cost > goal.limit]


def proposals(
    structure: Structure,
    scores: Scores,
    goals: Sequence[Goal],
    share: float,
    limits: Limits,
    latency: LatencyModel | None = None,
    allocator: str | None = None,
) -> list[Proposal]:
    """The cuts that save `share` of the dense network's cost, or what is left to save: of single blocks, and of all of
    them together as the allocator shares it out, where one is named.

    NetAdapt (ECCV 2018), algorithm 1, which knows the first kind alone. Where no cut saves as much, each block is cut
    as far as it goes; then those that save most are the longest steps there are. Raises BudgetError where nothing can
    be cut any more.
    """
    knobs = make_knobs(structure, scores, limits, latency)
    costs = costs_now(goals, structure, latency)
    wanted = [
        Budget(goals[number].unit, max(goals[number].limit, costs[number] - share * goals[number].dense))
        for number in exceeded(goals, costs)
    ]
    fit = Fit(structure, knobs, wanted, latency=latency)
    full = [len(knob.levels) - 1 for knob in knobs]
    steps = {number: _least_cut(fit, full, number) for number in range(len(knobs))}
    alone = {number: step for number, step in steps.items() if step is not None}
    together = None if allocator is None or len(knobs) < 2 else _together(fit, allocator, structure, scores, latency)
    if not alone and together is None:
        alone = {number: 0 for number in range(len(knobs)) if full[number] and fit.saved(full, number, 0) > 0}
    if not alone and together is None:
        left = ", ".join(f"{goal.unit} {cost:.4g} of {goal.limit:.4g}" for goal, cost in zip(goals, costs, strict=True))
        raise BudgetError(f"no block can be cut any further, and the budget is not met: {left}; ask for less")
    made = [_proposal(knobs[number], step, structure, scores, latency) for number, step in alone.items()]
    if together is not None and all(together.plan.kept != one.plan.kept for one in made):
        made.append(together)
    return made


def multiples(structure: Structure, scores: Scores, limits: Limits) -> Plan | None:
    """Every block cut to the next multiple of `limits.round_to`; None where all are such already. Blocks for which no
    multiple is large enough stay as they are."""
    multiple = multiple_of(limits.round_to)
    kept: dict[str, Indices] = {}
    for knob in make_knobs(structure, scores, limits):
        if len(knob.levels) > 1 and any(size % multiple for size in knob.sizes(knob.full).values()):
            kept |= kept_at(structure, scores, [knob], [len(knob.levels) - 2])
    return Plan(structure, kept) if kept else None


def _least_cut(fit: Fit, full: Sequence[int], number: int) -> int | None:
    """The highest step of this knob at which all is saved that is to be, with all others at their full level."""
    for step in range(full[number] - 1, -1, -1):
        if fit.holds([*full[:number], step, *full[number + 1 :]]):
            return step
    return None


def _together(
    fit: Fit, allocator: str, structure: Structure, scores: Scores, latency: LatencyModel | None
) -> Proposal | None:
    """None where even all blocks do not save as much."""
    try:
        fit.demand_possible()
    except BudgetError:
        return None
    steps = ALLOCATORS.get(allocator)(fit)
    return Proposal.of_all(ALL_BLOCKS, Plan(structure, kept_at(structure, scores, fit.knobs, steps)), latency)


def _proposal(knob: Knob, step: int, structure: Structure, scores: Scores, latency: LatencyModel | None) -> Proposal:
    (axis, multiple), *_ = knob.axes
    plan = Plan(structure, kept_at(structure, scores, [knob], [step]))
    before, after = multiple * knob.full, multiple * int(knob.levels[step])
    return Proposal(axis, before, after, plan, costs_of(plan, latency))


def costs_of(plan: Plan, latency: LatencyModel | None = None) -> dict[str, float]:
    """What the network costs that the plan makes; its time, too, where there is a model of that."""
    timed = {} if latency is None else {LATENCY_MS: latency.at(plan.sizes)}
    return {**network_costs(plan.structure, plan.sizes), **timed}
