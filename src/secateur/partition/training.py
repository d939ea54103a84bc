"""Fewer entries that cross, by training: what ADMM, schedules and penalties drive towards zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.partition.budget import Limit, LinkBudgets, wanted
from secateur.partition.choosing import choose, demand_possible, seconds_with
from secateur.partition.split import Split
from secateur.sparse.masks import Masks
from secateur.train.methods.targets import Values


class CrossingTarget:
    """All weights of one device that read one entry of another's go together, those of the smallest norm for the time
    on their link, so that no more crosses than a budget of bytes or time allows. For `ADMM`, and schedules:

        method = ADMM(CrossingTarget(model, split, budget=0.2), rho=1e-3, every=100)

    Communication-Aware DNN Pruning (INFOCOM 2023) zeroes kernels, of which one that is left keeps its input crossing;
    this is the projection onto what saves bytes (`granularity="kernel"` of `Weights` is the paper's).
    """

    rises = True

    def __init__(self, model: nn.Module, split: Split, budget: LinkBudgets) -> None:
        """budget: as for `prune_crossings`. Raises BudgetError where it cannot be met."""
        self._split, self._crossings = split, split.crossings
        self._limit = wanted(split, model, budget)
        everything = np.ones(len(self._crossings), dtype=bool)
        self._whole = Limit(self._crossings.total(), seconds_with(self._crossings, split.topology, everything))
        self.share: float = 1 - self._limit.share_of(self._whole)
        parameters = dict(model.named_parameters())
        self.weights: Mapping[str, nn.Parameter] = {
            site.weight: parameters[site.weight] for site in self._crossings.sites
        }
        demand_possible(self._crossings, split.topology, self._limit)

    def see(self, values: Values) -> None:
        """Norms need no watching."""

    def masks(self, values: Values, share: float | None = None) -> Masks:
        limit = self._limit if share is None else self._limit.loosened(self._whole, share)
        kept = choose(self._crossings, self._crossings.norms(values), self._split.topology, limit)
        whole = {name: torch.ones_like(value, dtype=torch.bool) for name, value in values.items()}
        return whole | self._crossings.masks(kept, values)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """There is none."""


class CrossingLasso:
    """After each optimizer step, each group W_g of weights of one device that read one entry of another's is shrunk by
    the factor `max(0, 1 - strength * c_g / ||W_g||)`, c_g being what the entry costs to send over its link, in units of
    the mean: bytes over bandwidth; where there is no link, nothing is left of it. Exact zeros, as of `GroupLasso`. What
    links may carry at most is for `CrossingTarget` and `prune_crossings`."""

    def __init__(self, model: nn.Module, split: Split, *, strength: float = 1e-5) -> None:
        """strength: what the norm of a group of mean cost loses a step."""
        self._crossings, self.strength = split.crossings, strength
        self._weights: dict[str, Tensor] = dict(model.named_parameters())
        links = self._crossings.sender, self._crossings.receiver
        costs = self._crossings.bytes * split.topology.seconds_of_a_byte[links]
        self._missing = split.topology.missing[links]
        unit = costs[~self._missing].mean() if not self._missing.all() else 1.0
        self._costs = costs / unit

    def step(self, take: Callable[[], None]) -> None:
        take()
        with torch.no_grad():
            norms = np.sqrt(self._crossings.norms(self._weights))
            factors = np.maximum(0.0, 1 - self.strength * self._costs / np.maximum(norms, 1e-30))
            factors[self._missing] = 0
            for mine, site, rows, columns in self._crossings.readers():
                weight = site.rows_first(self._weights[site.weight])
                places = (rows[:, None, None], columns)
                factor = torch.from_numpy(factors[mine]).to(weight).reshape(1, -1, *[1] * (weight.dim() - 1))
                weight[places] = weight[places] * factor
