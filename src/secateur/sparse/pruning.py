"""Pruning single weights: score, spread, mask and prove, in one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from secateur.score.gradients import batches
from secateur.sparse.allocation import WEIGHT_ALLOCATORS, WeightAllocator, row, uniform
from secateur.sparse.criteria import WEIGHT_CRITERIA, WeightCriterion, WeightQuestion
from secateur.sparse.layout import Layout
from secateur.sparse.making import Request, make_masks
from secateur.sparse.masks import add_masks_, as_tensors, layouts, masks_of, prunable_weights
from secateur.sparse.measuring import measure_weights
from secateur.sparse.pattern import Pattern
from secateur.sparse.proof import verify_masks
from secateur.sparse.reconstruction import Reconstructed
from secateur.sparse.updating import UPDATING, pruned_and_updated
from secateur.spec import BudgetError, ElementMasks, ScoreError, Verification
from secateur.structure import clone
from secateur.structure.capture import Inputs, private_copy
from secateur.structure.selectors import Selector


@dataclass(frozen=True)
class WeightConfig:
    """How single weights are chosen."""

    pattern: Pattern
    criterion: str | WeightCriterion = "magnitude"
    allocator: str | WeightAllocator = "uniform"
    shares: Mapping[str, float] | None = None
    """For allocators that read it, by parameter, module, pattern or module type; the last that matches counts."""
    ignore: Sequence[Selector] = ()
    targets: Sequence[Selector] = ()
    min_keep: int = 1
    max_remove_ratio: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class PrunedWeights:
    """A copy of the model with zeros, where they are, and the proof."""

    model: nn.Module
    masks: ElementMasks
    verification: Verification | None
    notes: tuple[str, ...] = ()


def prune_weights(
    model: nn.Module,
    inputs: Inputs,
    *,
    sparsity: float | None,
    config: WeightConfig,
    data: Iterable[Any] | None = None,
    verify: bool = True,
) -> PrunedWeights:
    """Zeros in place of the weights that matter least; the given model is not changed.

    sparsity: share of the weights that are pruned (targets, less what is ignored) that goes, in [0, 1): single weights
    in exactly `round(sparsity * count)`, of what leaves as a whole the fewest that make up that number. None for N:M,
    which says it itself, and for allocators whose shares do.
    Weights that an earlier pruning of the model removed stay removed, and count as what goes one by one. Raises
    BudgetError for a sparsity that cannot be met, ScoreError for weights that are not finite or a criterion without its
    data, SelectorError for a selector that matches nothing.
    """
    weights = prunable_weights(model, ignore=config.ignore, targets=config.targets)
    if not weights:
        raise BudgetError(f"no weight of {type(model).__name__} is left to prune; ignore less, or name other targets")
    request, places = _request(model, weights, sparsity, config), layouts(model)
    values = {name: weight.detach() for name, weight in weights.items()}
    _demand_finite(values)
    if config.criterion in UPDATING:
        method = str(config.criterion)
        found = pruned_and_updated(model, data, values, places, request, method=method, seed=config.seed)
    else:
        found = _by_scores(model, inputs, values, places, data, request, config)
    sparse = clone(model)
    sparse.load_state_dict(found.weights, strict=False)
    record = add_masks_(sparse, model, found.masks, str(config.pattern), _made_by(config, sparsity))
    proof = verify_masks(model, sparse, as_tensors(record), inputs) if verify else None
    notes = (*found.notes, *_with_tails(found.masks, places, config))
    return PrunedWeights(sparse, record, proof, notes)


def _by_scores(
    model: nn.Module,
    inputs: Inputs,
    values: Mapping[str, Tensor],
    places: Mapping[str, Layout],
    data: Iterable[Any] | None,
    request: Request,
    config: WeightConfig,
) -> Reconstructed:
    """The lowest scores go; what stays keeps its value."""
    scores = score_weights(model, inputs, config, data, sparsity=request.sparsity)
    before = as_tensors(masks_of(model))
    gone = {name: ~before[name] for name in scores if name in before}
    own = {name: places[name] for name in scores}
    masks = make_masks(scores, {name: values[name] for name in scores}, own, request, gone)
    whole = [name for name in values if name not in scores]
    notes = (f"the criterion does not apply to {', '.join(whole)}: left whole",) if whole else ()
    return Reconstructed(masks, {}, notes)


def _made_by(config: WeightConfig, sparsity: float | None) -> dict[str, str | float | None]:
    def name(thing: Any) -> str:
        return thing if isinstance(thing, str) else getattr(thing, "__name__", type(thing).__name__.lower())

    return {
        "criterion": name(config.criterion),
        "allocator": None if config.pattern.keep_per_group else name(config.allocator),
        "sparsity": sparsity,
        "seed": config.seed,
    }


# What was asked.


def _request(
    model: nn.Module, weights: Mapping[str, nn.Parameter], sparsity: float | None, config: WeightConfig
) -> Request:
    allocator = WEIGHT_ALLOCATORS.get(config.allocator) if isinstance(config.allocator, str) else config.allocator
    _demand_one_budget(sparsity, config, says_itself=getattr(allocator, "needs_no_budget", False))
    if config.min_keep < 1 or not 0 <= config.max_remove_ratio <= 1:
        raise BudgetError(
            f"min_keep={config.min_keep}, max_remove_ratio={config.max_remove_ratio}: expected at least 1, and 0 to 1"
        )
    in_rows = allocator is row or (allocator is uniform and _compares_in_rows(config))
    return Request(
        config.pattern,
        sparsity,
        row if in_rows and config.pattern.kind == "element" else allocator,
        _shares(model, weights, config.shares or {}),
        config.min_keep,
        config.max_remove_ratio,
        in_rows and config.pattern.kind == "element",
    )


def _demand_one_budget(sparsity: float | None, config: WeightConfig, *, says_itself: bool) -> None:
    group = config.pattern.keep_per_group
    if group is not None:
        own = 1 - group[0] / group[1]
        if sparsity is not None and abs(sparsity - own) > 1e-9:
            raise BudgetError(
                f"pattern {config.pattern} removes {own:.6g} of the weights, budget sparsity={sparsity} asks for "
                "another share; drop the budget"
            )
    elif says_itself and sparsity is not None:
        raise BudgetError(f"allocator {config.allocator} takes what goes from the shares; drop the budget")
    elif says_itself and not config.shares:
        raise BudgetError(f"allocator {config.allocator} needs shares, by weight, module, pattern or module type")
    elif not says_itself and sparsity is None:
        raise BudgetError("no budget given; name one, for example sparsity=0.9")


def _shares(model: nn.Module, weights: Mapping[str, nn.Parameter], given: Mapping[str, float]) -> dict[str, float]:
    """By parameter; raises SelectorError for a name that matches none, BudgetError for what is no share."""
    found: dict[str, float] = {}
    for selector, share in given.items():
        if not (isfinite(share) and share >= 0):
            raise BudgetError(f"share {selector}={share}: must be at least 0")
        found |= dict.fromkeys(prunable_weights(model, targets=[selector]), share)
    return {name: share for name, share in found.items() if name in weights}


# Scores.


def _compares_in_rows(config: WeightConfig) -> bool:
    return config.criterion not in UPDATING and getattr(_criterion(config), "in_rows", False)


def _criterion(config: WeightConfig) -> WeightCriterion:
    return WEIGHT_CRITERIA.get(config.criterion) if isinstance(config.criterion, str) else config.criterion


def score_weights(
    model: nn.Module,
    inputs: Inputs,
    config: WeightConfig,
    data: Iterable[Any] | None = None,
    *,
    sparsity: float | None = None,
) -> dict[str, Tensor]:
    """Importance of each weight that is asked about, by parameter and of its shape; of one type, on the CPU.

    sparsity: what criteria that prune in rounds aim at; half, where none is given. Raises as `prune_weights`.
    """
    criterion, name = _criterion(config), _made_by(config, None)["criterion"]
    asked = prunable_weights(model, ignore=config.ignore, targets=config.targets)
    values = {key: weight.detach() for key, weight in asked.items()}
    _demand_finite(values)
    needed = frozenset(getattr(criterion, "needs", ()))
    if needed and data is None:
        raise ScoreError(f"criterion {name!r} looks at data; give data= (--data on the command line)")
    read = tuple(batches(data)) if needed and data is not None else ()
    copy = private_copy(model).eval()
    found = measure_weights(copy, values, read, needed) if needed - {"batches"} else None
    aim = 0.5 if sparsity is None else sparsity
    with torch.random.fork_rng(), torch.no_grad():
        made = criterion(
            WeightQuestion(copy, inputs, values, layouts(model), read, aim, config.seed, config.pattern, found)
        )
    if not made:
        raise ScoreError(f"criterion {name!r} scores no weight of {type(model).__name__}; choose another")
    return _of_one_type(made)


def _demand_finite(values: Mapping[str, Tensor]) -> None:
    for name, weight in values.items():
        if not bool(weight.isfinite().all()):
            raise ScoreError(
                f"parameter {name!r} holds values that are not finite; train to finite weights, or load others"
            )


def _of_one_type(made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kind = torch.float32
    for score in made.values():
        kind = torch.promote_types(kind, score.dtype)
    return {name: score.detach().to("cpu", kind) for name, score in made.items()}


# What was done otherwise than one might expect.


def _with_tails(scores: Mapping[str, Any], places: Mapping[str, Layout], config: WeightConfig) -> list[str]:
    group = config.pattern.keep_per_group
    if group is None:
        return []
    kept, of = group
    odd = [name for name in scores if places[name].inputs % of]
    rule = f"the last group of R < {of} keeps {kept} R / {of}, rounded up"
    return [f"{of} does not divide the inputs of {', '.join(odd)}: {rule}"] if odd else []
