"""Whole channels, heads and blocks cut out: look, score, allocate, cut, prove, heal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from secateur.allocate import allocate, needs_times, shares_from_entropies
from secateur.cost import LatencyModel, latency_model, network_costs
from secateur.hugging_face import Tied, adopt_config, config_of, describe, is_transformers_model, tie_to_config
from secateur.pipeline.config import PruneConfig, kinds_of
from secateur.pipeline.result import Evaluate, Metrics, PruneResult, evaluated
from secateur.recover import FOLD, SECOND_ORDER, STAGES, allocator_for, heal_, healed_scores, stages_of
from secateur.score import layer_entropies, score
from secateur.score.gradients import Batch, batches, first_batch
from secateur.sparse import sparsity
from secateur.spec import (
    SPARSITY,
    BudgetError,
    Plan,
    ScoreError,
    Scores,
    SecateurError,
    Structure,
    TraceError,
    Verification,
)
from secateur.spec.budget import Budgets
from secateur.store import remember_cut
from secateur.structure import Traced, trace_program
from secateur.structure.capture import Inputs, demand_forward, private_copy
from secateur.structure.schema import apply_schema
from secateur.structure.selectors import restrict
from secateur.surgery import mend, shrink, verify_traced


def prune_channels(
    model: nn.Module,
    inputs: Inputs,
    budget: Budgets | None,
    data: Iterable[Any] | None,
    evaluate: Evaluate | None,
    given: PruneConfig,
    *,
    verify: bool,
) -> PruneResult:
    if budget is None:
        raise BudgetError("no budget given; name one, for example macs=0.5 (secateur list budgets)")
    traced = trace_program(model, inputs, blocks=_asks_for_blocks(given))
    structure = _restricted(traced.structure, model, given)
    tied = tie_to_config(model, structure)
    settings = _decided(given, data, tied)
    if data is not None:
        _demand_usable(model, data)
    preferred = _structures(settings, structure, tied)
    scores = _scored(model, preferred[0], settings, data)
    shares = _shares(settings, model, structure)
    latency = latency_model(model, inputs, traced=traced) if needs_times(budget, settings.round_to) else None

    def decide(structure: Structure) -> Plan:
        return _allocated(structure, scores, budget, settings, shares, latency)

    cut = _cut(model, _first_that_fits(preferred, decide), inputs, traced if verify else None)
    if cut.proof is not None and not cut.proof.ok:
        cut = _mended(model, cut, decide, inputs, traced)
    small, plan = cut.model, cut.plan
    if latency is not None:
        latency.table.save()
    remember_cut(small, model, plan)
    stages = tuple(_healed_(small, model, plan, inputs, data, evaluate, settings))
    notes = () if latency is None else latency.notes
    if is_transformers_model(model):
        describe(small, config_of(model), exact=False)
        notes += _config_notes(small, plan, inputs, tied, settings.tie)
    before = {**network_costs(structure), SPARSITY: sparsity(model), **evaluated(evaluate, model)}
    measured = {key: value for key, value in stages[-1].items() if key != "stage"} if stages else None
    healed = evaluated(evaluate, small) if measured is None else measured
    after = {**network_costs(structure, plan.sizes), SPARSITY: sparsity(small), **healed}
    made_by = {**plan.made_by, "recover": settings.recover} if stages else {**plan.made_by}
    return PruneResult(small, plan, before, after, cut.proof, made_by, notes, stages)


def _restricted(structure: Structure, model: nn.Module, settings: PruneConfig) -> Structure:
    """The structure as schema and selectors leave it; something in it can be cut."""
    schemed = structure if settings.schema is None else apply_schema(structure, settings.schema)
    made = restrict(schemed, model, ignore=settings.ignore, targets=settings.targets, granularity=settings.granularity)
    _demand_something_to_cut(made, settings.granularity)
    return made


def _decided(settings: PruneConfig, data: Iterable[Any] | None, tied: Tied | None) -> PruneConfig:
    """What `auto` means here."""
    criterion, allocator, recover = settings.criterion, settings.allocator, settings.recover
    stages_of(recover)
    if data is None and (recover not in ("auto", "none", FOLD) or criterion == SECOND_ORDER):
        raise ScoreError(f"recover={recover!r} and criterion='second-order' look at data; give data=")
    if criterion == "auto":
        criterion = "l2" if data is None else SECOND_ORDER
    if allocator == "auto":
        allocator = allocator_for(criterion) if tied is None or settings.tie == "none" else "uniform"
    if recover == "auto":
        recover = "none" if data is None else STAGES[-1]
    return replace(settings, criterion=criterion, allocator=allocator, recover=recover)


def _demand_usable(model: nn.Module, data: Iterable[Any]) -> None:
    """Raise ScoreError where the model does not take the calibration data."""
    try:
        demand_forward(model, first_batch(batches(data))[0])
    except TraceError as error:
        raise ScoreError(f"the model does not take the calibration data: {error}") from error


def _scored(model: nn.Module, structure: Structure, settings: PruneConfig, data: Iterable[Any] | None) -> Scores:
    if settings.criterion == SECOND_ORDER:
        return healed_scores(model, structure, lambda: batches(data or ()), seed=settings.seed)
    by_member = settings.merge != "score"
    return score(model, structure, criterion=settings.criterion, data=data, by_member=by_member, seed=settings.seed)


def _healed_(
    small: nn.Module,
    model: nn.Module,
    plan: Plan,
    inputs: Inputs,
    data: Iterable[Any] | None,
    evaluate: Evaluate | None,
    settings: PruneConfig,
) -> Iterator[Metrics]:
    """Heal the smaller model, and measure it after the cut and after each stage."""
    stages = stages_of(settings.recover)
    if not stages:
        return
    yield {"stage": "cut", **evaluated(evaluate, small)}
    generator = torch.Generator().manual_seed(settings.seed)
    for stage in heal_(small, private_copy(model), plan, inputs, _Calibration(data or ()), stages, generator):
        yield {"stage": stage, **evaluated(evaluate, small)}


@dataclass(frozen=True)
class _Calibration:
    """Batches in one form, read anew each time they are gone through."""

    data: Iterable[Any]

    def __iter__(self) -> Iterator[Batch]:
        return batches(self.data)


@dataclass(frozen=True)
class _Cut:
    """A plan, carried out, and the proof where one was asked for."""

    model: nn.Module
    plan: Plan
    proof: Verification | None


def _cut(model: nn.Module, plan: Plan, inputs: Inputs, traced: Traced | None) -> _Cut:
    small = shrink(model, plan)
    return _Cut(small, plan, None if traced is None else verify_traced(model, small, plan, inputs, traced))


def _mended(model: nn.Module, cut: _Cut, decide: Callable[[Structure], Plan], inputs: Inputs, traced: Traced) -> _Cut:
    """A cut without what made this one disagree with the reference; this one where nothing is found, or where too
    little is left to cut."""
    structure = mend(model, cut.plan, inputs, traced)
    if structure is cut.plan.structure:
        return cut
    try:
        _demand_something_to_cut(structure)
        plan = decide(structure)
    except SecateurError:
        return cut
    return _cut(model, plan, inputs, traced)


def _asks_for_blocks(settings: PruneConfig) -> bool:
    """Whether residual blocks may be meant, which are not looked for otherwise."""
    kinds = kinds_of(settings)
    named = [name for name in (*settings.targets, *settings.ignore) if isinstance(name, str)]
    return settings.schema is not None or "blocks" in (*kinds, *named) or any(name.endswith(".block") for name in named)


def _structures(settings: PruneConfig, structure: Structure, tied: Tied | None) -> list[Structure]:
    """What to allocate on: the first on which the budget can be met."""
    if settings.tie == "config":
        if tied is None:
            raise SecateurError(f"tie='config' needs a network of transformers, got {structure.model}; drop it")
        _demand_something_to_cut(tied.structure)
        return [tied.structure]
    costs_nothing = tied is not None and not tied.kept_whole and settings.allocator == "uniform"
    return [tied.structure, structure] if tied is not None and costs_nothing and settings.tie == "auto" else [structure]


def _first_that_fits(structures: Sequence[Structure], allocated: Callable[[Structure], Plan]) -> Plan:
    for structure in structures[:-1]:
        try:
            return allocated(structure)
        except BudgetError:
            continue
    return allocated(structures[-1])


def _allocated(
    structure: Structure,
    scores: Scores,
    budget: Budgets,
    settings: PruneConfig,
    shares: Mapping[str, float] | None,
    latency: LatencyModel | None,
) -> Plan:
    free = {axis.name for axis in structure.prunable}
    return allocate(
        structure,
        replace(scores, values={name: values for name, values in scores.values.items() if name in free}),
        budget,
        allocator=settings.allocator,
        merge=settings.merge,
        shares=shares,
        round_to=settings.round_to,
        min_keep=settings.min_keep,
        max_remove_ratio=settings.max_remove_ratio,
        latency=latency,
    )


def _config_notes(small: nn.Module, plan: Plan, inputs: Inputs, tied: Tied | None, tie: str) -> tuple[str, ...]:
    reason = (
        "it did not fit its configuration before" if tied is None else adopt_config(small, plan, tied.moves, inputs)
    )
    if reason is None:
        return ()
    hint = "" if tied is None or tie == "config" else "; tie='config' cuts only to sizes that its configuration can say"
    return (f"from_pretrained cannot load the result, secateur.load can: {reason}{hint}",)


def _shares(settings: PruneConfig, model: nn.Module, structure: Structure) -> Mapping[str, float] | None:
    if not isinstance(settings.shares, str):
        return settings.shares
    if settings.shares != "spectral":
        raise SecateurError(f"shares: got {settings.shares!r}, expected shares by name or 'spectral'")
    return shares_from_entropies(layer_entropies(model, structure))


def _demand_something_to_cut(structure: Structure, granularity: str | Sequence[str] = ()) -> None:
    if any(axis.chosen for axis in structure.axes):
        return
    meant = [axis for axis in structure.axes if not granularity or axis.role in granularity]
    reasons = sorted({axis.pin.detail for axis in meant if axis.pin is not None})
    raise SecateurError(f"nothing in {structure.model} can be cut: {'; '.join(reasons[:4]) or 'it has no parameters'}")
