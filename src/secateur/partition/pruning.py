"""Fewer entries that cross, without training: chosen by what the network loses, made up for by what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from secateur.partition import worth
from secateur.partition.budget import LinkBudgets, by_unit, wanted
from secateur.partition.choosing import choose, demand_possible
from secateur.partition.split import Split
from secateur.recover import SECOND_ORDER, joint_refit_, rebase_norms_, refit_
from secateur.score.gradients import batches
from secateur.sparse.masks import add_masks_, as_tensors
from secateur.spec import BudgetError, Plan
from secateur.store import inherit
from secateur.structure.clone import clone

Evaluate = Callable[[nn.Module], float]
Recover = Literal["joint", "refit", "none"]


@dataclass(frozen=True)
class PrunedSplit:
    """A network whose parts need to say less to each other."""

    model: nn.Module
    """As large as before, with zeros."""
    masks: Mapping[str, Tensor]
    """Of each weight that lost something, of its shape, False at zeros that are to stay; remembered with the model, so
    that folders keep them."""
    split: Split
    bytes_before: int
    """Of one sample."""
    bytes_after: int
    stages: Mapping[str, float]
    """What `evaluate` found: before, after the cut, after each stage of healing."""


def prune_crossings(
    model: nn.Module,
    split: Split,
    budget: LinkBudgets,
    data: Iterable[Any],
    *,
    recover: Recover = "joint",
    evaluate: Evaluate | None = None,
    seed: int = 0,
) -> PrunedSplit:
    """Cut weights so that no more crosses than a budget of bytes or time allows, that links carry no more than they
    can, that nothing crosses where there is no link, and that devices have room for their weights. The model is not
    touched.

    budget: 0.4 for that share of the bytes, 100000 for so many a sample, `{"latency": 0.5}` for that share of the time
    a sample takes by estimate, `{"latency_ms": 20}` for so long; several all count.
    data: calibration batches; labels are not read. recover: `joint`, `refit` or `none`.

    What goes is what rows of a device can best make up for by other columns (group OBS, with rows and columns of one
    device as the group), brought into line with what the network is measured to lose; healing is least squares, layer
    by layer, then layers together.

    Raises BudgetError where the budget cannot be met, ScoreError for data that does not serve.
    """
    if recover not in get_args(Recover):
        raise BudgetError(f"unknown recover {recover!r} of a partition; expected {', '.join(get_args(Recover))}")
    held = list(data) if hasattr(data, "__next__") else data
    crossings, limit = split.crossings, wanted(split, model, budget)
    demand_possible(crossings, split.topology, limit)  # before anything is measured
    known = worth.measure(model, {site.weight for site in crossings.sites}, lambda: batches(held), seed)
    small = clone(model).eval()
    inherit(small, model)
    weights = dict(small.named_parameters())
    lost = np.where(crossings.norms(weights) > 0, worth.lost_by(crossings, known), -1.0)
    kept = choose(crossings, lost, split.topology, limit) & (lost >= 0)
    made_by = {"criterion": SECOND_ORDER, "seed": seed, **by_unit(budget)}
    masks = as_tensors(add_masks_(small, model, crossings.masks(kept, weights), "crossings", made_by))
    stages = {} if evaluate is None else {"before": evaluate(model), "cut": evaluate(small)}
    generator, plan = torch.Generator().manual_seed(seed), Plan(split.structure, {})
    for stage, heal in (("refit", refit_), ("joint", joint_refit_)):
        if recover == "joint" or recover == stage:
            heal(small, model, plan, list(batches(held)), generator, kept=masks)
            if evaluate is not None:
                stages[stage] = evaluate(small)
    if recover != "none":
        rebase_norms_(small, batches(held))
    before, after = (int(split.traffic(network).total) // split.arrangement.samples for network in (model, small))
    return PrunedSplit(small, masks, split, before, after, stages)
