"""`prune`: look, score, allocate, cut and prove, in one call."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from secateur.allocate import Allocator, allocate, needs_times, shares_from_entropies
from secateur.cost import LatencyModel, compare_latency, latency_model, network_costs
from secateur.hugging_face import Tied, adopt_config, config_of, describe, is_transformers_model, tie_to_config
from secateur.recover import FOLD, SECOND_ORDER, STAGES, heal_, healed_scores, stages_of
from secateur.score import Criterion, layer_entropies, score
from secateur.score.gradients import Batch, batches, first_batch
from secateur.sparse import Pattern, WeightConfig, masks_of, prune_weights, remember_masks, sparsity
from secateur.sparse.masks import shrink_masks
from secateur.sparse.torch_prune import permanent, read_masks
from secateur.spec import (
    SPARSITY,
    BudgetError,
    ElementMasks,
    Plan,
    RunRecord,
    ScoreError,
    Scores,
    SecateurError,
    SelectorError,
    Structure,
    TraceError,
    Verification,
    parse_budgets,
)
from secateur.spec.budget import Budgets
from secateur.store import history_of, remember_history, save_folder
from secateur.structure import Traced, trace_program
from secateur.structure.capture import Inputs, demand_forward, normalise_inputs, private_copy
from secateur.structure.schema import Schema, apply_schema
from secateur.structure.selectors import Selector, restrict
from secateur.surgery import mend, shrink, verify_traced

Metrics = Mapping[str, Any]
Evaluate = Callable[[nn.Module], float | Metrics]
TIES = ("auto", "config", "none")


@dataclass(frozen=True)
class PruneConfig:
    """How `prune` decides; every field is an option of the command line too."""

    criterion: str | Criterion = "auto"
    """`auto`: where there is data, `second-order`; else `l2`."""
    allocator: str | Allocator = "auto"
    """`auto`: what goes with the criterion, `knapsack` with `second-order`, else `uniform`. Networks of transformers
    are cut uniformly, so that their configuration can say the result."""
    merge: str = "score"
    shares: Mapping[str, float] | str | None = None
    """For the `adaptive` allocator, by axis, module or pattern; or `spectral`, from the entropy of each layer."""
    round_to: int | str = 1
    """Kept counts are multiples of a number, or of what suits a kind of device; or `auto`, those at which the measured
    time falls."""
    min_keep: int = 1
    max_remove_ratio: float = 1.0
    ignore: Sequence[Selector] = ()
    targets: Sequence[Selector] = ()
    granularity: str | Sequence[str] = ()
    """Kinds of axes that are cut, and no others: one or more roles, such as `heads` or `blocks` (docs/glossary.md). Or
    one pattern of single weights that become zero: `element`, `2:4`, `block:4x1`, `kernel`, `row`, `column`."""
    schema: str | Path | Schema | None = None
    """An edited base schema, or the path of one: what it leaves out stays whole."""
    tie: str = "auto"
    """Networks of transformers: `config` cuts only to sizes that their configuration can say, so that `from_pretrained`
    loads the result, `none` does not care, and `auto` is `config` where that costs nothing: the allocator gives every
    layer the same share anyway, no axis stays whole for it, and the budget can be met."""
    recover: str = "auto"
    """How what is left makes up for what is gone; no training, labels are not read. Channels and their like: `refit`
    fits every layer to what it made before the cut, `joint` then fits layers together with those that read them;
    `none` leaves them alone, and `auto` is all of it where there is data. `fold` needs none: channels behind a
    BatchNorm leave what they did to those that are like them. `recalibrate` only measures the statistics of
    BatchNorms anew. Single weights: `second-order` chooses those that go
    together with new values for those that stay, in place of a criterion, the same as naming it as the criterion;
    otherwise they stay as they are."""
    latency: bool = False
    """Also measure how much faster the result is, in turn with the original. Done anyway where a budget or `round_to`
    is in measured time."""
    seed: int = 0


@dataclass(frozen=True)
class PruneResult:
    """The smaller model, the plan that made it, what it costs before and after, and the proof."""

    model: nn.Module
    plan: Plan
    before: Metrics
    after: Metrics
    verification: Verification | None
    options: Metrics = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the result cannot do that one might expect, and why."""
    stages: tuple[Metrics, ...] = ()
    """What was measured after the cut and each stage of healing: `{"stage": "refit", "accuracy": ...}`."""
    masks: ElementMasks | None = None
    """Which single weights are zero, where these were pruned; the plan cuts nothing then."""

    @property
    def structure(self) -> Structure:
        """The structure of the model that was cut."""
        return self.plan.structure

    def table(self) -> str:
        """Before and after, a metric a line, as plain text."""
        rows = [("", "before", "after", "kept")]
        for key, before in self.before.items():
            after = self.after.get(key)
            if isinstance(before, int | float) and isinstance(after, int | float):
                share = f"{after / before:.1%}" if before else "-"
                rows.append((key, _shown(before), _shown(after), share))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines += self.stage_lines()
        if self.verification is not None:
            state = "verified" if self.verification.ok else "NOT VERIFIED"
            lines.append(
                f"{state}: differs from the reference by {self.verification.relative_diff:.1e} of the output's scale"
            )
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def stage_lines(self) -> list[str]:
        """What was measured after the cut and after each stage of healing, a stage a line."""
        lines: list[str] = []
        for stage in self.stages:
            numbers = [f"{key} {_shown(value)}" for key, value in stage.items() if isinstance(value, int | float)]
            lines.append(f"after {stage['stage']}: {', '.join(numbers) or 'nothing was measured'}")
        return lines

    def save(self, directory: str | Path, *, source: Metrics | None = None) -> Path:
        """Write weights, plan, run record and model card to a folder that `secateur.load` reads; returns its path."""
        return save_folder(self.model, directory, run=self.run_record(), source=source)

    def run_record(self) -> RunRecord:
        """The record of this run."""
        environment = {"torch": torch.__version__, "python": platform.python_version()}
        model = self.plan.structure.model
        return RunRecord(
            "prune",
            model,
            self.before,
            self.after,
            self.verification,
            self.options,
            self.stages,
            environment,
            self.notes,
        )


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def prune(
    model: nn.Module,
    example_inputs: Any,
    *,
    budget: Budgets | None = None,
    data: Iterable[Any] | None = None,
    evaluate: Evaluate | None = None,
    verify: bool = True,
    config: PruneConfig | None = None,
    **options: Any,
) -> PruneResult:
    """A physically smaller model within the budget, proved against the reference; or, where `granularity` names a
    pattern of single weights, one with zeros in their place, proved against the masked forward.

    example_inputs: a tensor, a tuple of positional or a dict of keyword inputs.
    budget: `{"macs": 0.5}` keeps half; see `secateur list budgets`. Of single weights `{"sparsity": 0.9}` removes nine
    of ten; N:M takes none.
    data: a loader of calibration batches: inputs, `(inputs, labels)`, or dicts of keyword inputs. With it the default
    chooses by what the healed network loses, and heals.
    evaluate: a function from a model to a number (taken as `accuracy`) or a dict of metrics, called before and after.
    options: the fields of `PruneConfig`, in place of `config`.

    Where the smaller model disagrees with the reference, the axes at fault are searched for, and mended or kept whole
    (`result.structure.notes` says which). The given model is not changed; one that carries masks of
    torch.nn.utils.prune is taken in its plain form, and what they removed stays removed. Raises a SecateurError that
    says what to do when the forward fails, the budget cannot be met, a selector matches nothing, a schema contradicts
    the network, or weights are not finite.
    """
    settings = _settings(config, options)
    if settings.tie not in TIES:
        raise SecateurError(f"unknown tie {settings.tie!r}; expected one of {', '.join(TIES)}")
    inputs = normalise_inputs(example_inputs)
    model = permanent(model) if read_masks(model) else model
    pattern = _pattern(settings)
    if pattern is not None:
        weights = _weight_config(settings, pattern)
        made = _without_weights(model, inputs, budget, data, evaluate, weights, verify=verify)
    else:
        made = _without_channels(model, inputs, budget, _held(data), evaluate, settings, verify=verify)
    in_time = budget is not None and needs_times(budget, settings.round_to)
    return _with_times(made, model, inputs) if settings.latency or in_time else made


def _with_times(made: PruneResult, model: nn.Module, inputs: Inputs) -> PruneResult:
    """The result, with the times of both networks and what they say."""
    speed = compare_latency(model, made.model, inputs)
    said = speed.said(macs_ratio=made.before["macs"] / max(1, made.after["macs"]))
    before, after = {**made.before, **speed.before}, {**made.after, **speed.after}
    return replace(made, before=before, after=after, notes=(*made.notes, said))


def _without_channels(
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
    remember_history(small, [*history_of(model), plan])
    masks = masks_of(model)
    if masks is not None:
        remember_masks(small, shrink_masks(masks, plan))
    stages = tuple(_healed_(small, model, plan, inputs, data, evaluate, settings))
    notes = () if latency is None else latency.notes
    if is_transformers_model(model):
        describe(small, config_of(model), exact=False)
        notes += _config_notes(small, plan, inputs, tied, settings.tie)
    before = {**network_costs(structure), SPARSITY: sparsity(model), **_evaluated(evaluate, model)}
    measured = {key: value for key, value in stages[-1].items() if key != "stage"} if stages else None
    healed = _evaluated(evaluate, small) if measured is None else measured
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
        allocator = "knapsack" if criterion == SECOND_ORDER and (tied is None or settings.tie == "none") else "uniform"
    if recover == "auto":
        recover = "none" if data is None else STAGES[-1]
    return replace(settings, criterion=criterion, allocator=allocator, recover=recover)


def _kinds(settings: PruneConfig) -> Sequence[str]:
    return [settings.granularity] if isinstance(settings.granularity, str) else list(settings.granularity)


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
    yield {"stage": "cut", **_evaluated(evaluate, small)}
    generator = torch.Generator().manual_seed(settings.seed)
    for stage in heal_(small, private_copy(model), plan, inputs, _Calibration(data or ()), stages, generator):
        yield {"stage": stage, **_evaluated(evaluate, small)}


@dataclass(frozen=True)
class _Calibration:
    """Batches in one form, read anew each time they are gone through."""

    data: Iterable[Any]

    def __iter__(self) -> Iterator[Batch]:
        return batches(self.data)


def _held(data: Iterable[Any] | None) -> Iterable[Any] | None:
    """The data, as a list where it can be read but once."""
    return list(data) if data is not None and hasattr(data, "__next__") else data


def _pattern(settings: PruneConfig) -> Pattern | None:
    """The pattern of single weights that the granularity names, if it does."""
    kinds = _kinds(settings)
    patterns = [kind for kind in kinds if Pattern.means(kind)]
    if patterns and len(kinds) > 1:
        raise SelectorError(f"granularity {', '.join(kinds)}: a pattern of single weights stands alone")
    return Pattern.parse(patterns[0]) if patterns else None


_OF_WHOLE_CHANNELS = ("merge", "round_to", "schema", "tie")


def _weight_config(settings: PruneConfig, pattern: Pattern) -> WeightConfig:
    defaults = PruneConfig()
    odd = [name for name in _OF_WHOLE_CHANNELS if getattr(settings, name) != getattr(defaults, name)]
    if odd or isinstance(settings.shares, str):
        raise SecateurError(f"{odd[0] if odd else 'shares by name'} is for whole channels, not for {pattern}; drop it")
    return WeightConfig(
        pattern,
        cast(Any, _weight_criterion(settings, defaults)),
        cast(Any, "uniform" if settings.allocator == "auto" else settings.allocator),
        settings.shares,
        settings.ignore,
        settings.targets,
        settings.min_keep,
        settings.max_remove_ratio,
        settings.seed,
    )


def _weight_criterion(settings: PruneConfig, defaults: PruneConfig) -> object:
    if settings.recover in ("auto", "none"):
        return "l2" if settings.criterion == "auto" else settings.criterion
    if settings.recover != SECOND_ORDER:
        raise SecateurError(f"unknown recover {settings.recover!r} of single weights; expected {SECOND_ORDER}, or none")
    if settings.criterion not in (defaults.criterion, SECOND_ORDER):
        raise SecateurError("recover='second-order' decides itself which weights go; drop the criterion, or recover")
    return SECOND_ORDER


def _without_weights(
    model: nn.Module,
    inputs: Inputs,
    budget: Budgets | None,
    data: Iterable[Any] | None,
    evaluate: Evaluate | None,
    config: WeightConfig,
    *,
    verify: bool,
) -> PruneResult:
    made = prune_weights(model, inputs, sparsity=_sparsity(budget), config=config, data=data, verify=verify)
    remember_history(made.model, history_of(model))
    structure = trace_program(model, inputs, blocks=False).structure
    costs = network_costs(structure)
    before = {**costs, SPARSITY: sparsity(model), **_evaluated(evaluate, model)}
    after = {**costs, SPARSITY: sparsity(made.model), **_evaluated(evaluate, made.model)}
    options = {"granularity": made.masks.pattern, **made.masks.made_by}
    return PruneResult(
        made.model, Plan(structure, {}), before, after, made.verification, options, made.notes, masks=made.masks
    )


def _sparsity(budget: Budgets | None) -> float | None:
    budgets = parse_budgets(budget) if budget else ()
    others = [item.unit for item in budgets if item.unit != SPARSITY]
    if others:
        raise BudgetError(f"budget {others[0]} counts what leaves for good; of single weights give sparsity, e.g. 0.9")
    return max((item.value for item in budgets), default=None)


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


def _settings(config: PruneConfig | None, options: Mapping[str, Any]) -> PruneConfig:
    if config is None:
        known = PruneConfig.__dataclass_fields__
        unknown = sorted(options.keys() - known.keys())
        if unknown:
            raise SecateurError(f"prune has no option {unknown[0]!r}; it has: {', '.join(sorted(known))}")
        return PruneConfig(**options)
    if options:
        raise SecateurError("give either config or single options to prune, not both")
    return config


def _asks_for_blocks(settings: PruneConfig) -> bool:
    """Whether residual blocks may be meant, which are not looked for otherwise."""
    kinds = _kinds(settings)
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


def _evaluated(evaluate: Evaluate | None, model: nn.Module) -> dict[str, Any]:
    if evaluate is None:
        return {}
    value = evaluate(model)
    return dict(value) if isinstance(value, Mapping) else {"accuracy": float(value)}
