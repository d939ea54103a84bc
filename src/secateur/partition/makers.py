"""Training that needs less between devices, by name: `admm-crossings:split=DIR,bytes=0.2`.

`DIR` is a partition of the same network: its devices, links and owners count, whatever its weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils._pytree import tree_map

from secateur.partition.budget import LINK_UNITS
from secateur.partition.folder import read_record
from secateur.partition.split import Split, partition
from secateur.partition.training import CrossingLasso, CrossingTarget
from secateur.sparse.masks import Masks
from secateur.spec import BudgetError
from secateur.structure import clone
from secateur.train.method import Method
from secateur.train.methods import METHODS, Made, Run
from secateur.train.methods.makers import WithADMM


@dataclass(frozen=True, kw_only=True)
class OfCrossings:
    """What devices read of each other's entries."""

    split: str = ""

    def taken_apart(self, run: Run) -> Split:
        if not self.split:
            raise BudgetError("between which devices? Give split=DIR, which secateur partition ... --out DIR wrote")
        record = read_record(self.split)
        inputs = tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf, run.inputs)
        return partition(clone(run.model).cpu(), inputs, record.topology, owners=record.owners)

    def made(self, method: Method, masks: Callable[[], Masks], penalty: Method | None = None) -> Made:
        return Made(method, penalty, masks=masks, then=f"secateur partition {{out}} --like {self.split} --out DIR")


@METHODS.register("admm-crossings", "draws weights to the nearest that send less between devices (split=DIR)")
@dataclass(frozen=True, kw_only=True)
class ADMMOfCrossings(OfCrossings, WithADMM):
    """Budgets as for `prune_crossings`, half of the bytes where none is given; `strength` that of `lasso-crossings`
    beside it; the rest as for `admm`."""

    bytes: float | None = None
    link_bytes: float | None = None
    latency: float | None = None
    latency_ms: float | None = None
    strength: float = 0.0

    def make(self, run: Run) -> Made:
        split = self.taken_apart(run)
        given = {unit: value for unit in LINK_UNITS if (value := getattr(self, unit)) is not None}
        target = CrossingTarget(run.model, split, given or 0.5)
        method = self.admm("admm-crossings", run, target)
        penalty = CrossingLasso(run.model, split, strength=self.strength) if self.strength else None

        def masks() -> Masks:
            return target.masks({name: weight.detach() for name, weight in target.weights.items()})

        return self.made(method, masks, penalty)


@METHODS.register("lasso-crossings", "shrinks all that reads an entry of another device, dear ones most (split=DIR)")
@dataclass(frozen=True, kw_only=True)
class LassoOfCrossings(OfCrossings):
    strength: float = 1e-5

    def make(self, run: Run) -> Made:
        split = self.taken_apart(run)
        crossings, weights = split.crossings, dict(run.model.named_parameters())
        method = CrossingLasso(run.model, split, strength=self.strength)
        return self.made(method, lambda: crossings.masks(crossings.norms(weights) > 0, weights))
