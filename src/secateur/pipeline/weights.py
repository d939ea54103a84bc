"""Single weights set to zero: a pattern, one measure of how many, and the proof against the masked forward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import nn

from secateur.cost import network_costs
from secateur.pipeline.config import PruneConfig, kinds_of
from secateur.pipeline.result import Evaluate, PruneResult, evaluated
from secateur.recover import SECOND_ORDER
from secateur.sparse import Pattern, WeightConfig, prune_weights, sparsity
from secateur.spec import SPARSITY, BudgetError, Plan, SecateurError, SelectorError, parse_budgets
from secateur.spec.budget import Budgets
from secateur.store import inherit
from secateur.structure import trace_program
from secateur.structure.capture import Inputs

OF_CHANNELS = ("merge", "round_to", "schema", "tie")
"""Options that mean nothing here."""


def pattern_of(settings: PruneConfig) -> Pattern | None:
    """The pattern of single weights that the granularity names, if it does."""
    kinds = kinds_of(settings)
    patterns = [kind for kind in kinds if Pattern.means(kind)]
    if patterns and len(kinds) > 1:
        raise SelectorError(f"granularity {', '.join(kinds)}: a pattern of single weights stands alone")
    return Pattern.parse(patterns[0]) if patterns else None


def weight_config(settings: PruneConfig, pattern: Pattern) -> WeightConfig:
    defaults = PruneConfig()
    odd = [name for name in OF_CHANNELS if getattr(settings, name) != getattr(defaults, name)]
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


def prune_single_weights(
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
    inherit(made.model, model)
    structure = trace_program(model, inputs, blocks=False).structure
    costs = network_costs(structure)
    before = {**costs, SPARSITY: sparsity(model), **evaluated(evaluate, model)}
    after = {**costs, SPARSITY: sparsity(made.model), **evaluated(evaluate, made.model)}
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
