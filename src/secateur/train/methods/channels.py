"""A target of whole channels, through the structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.allocate import allocate
from secateur.score import CRITERIA, Question
from secateur.sparse import Masks
from secateur.spec import UNITS, BudgetError, Plan, ScoreError, Scores, Structure, parse_budgets
from secateur.spec.expr import axes_of
from secateur.structure import named_tensors
from secateur.surgery.select import removed_mask
from secateur.train.methods.targets import Values


class Channels:
    """Whole channels, heads and other axes of a structure; their weights are zeroed where they are made, so that what
    reads them still tells how to bring them back.

    Biases and scales of norms are left alone, as in Soft Filter Pruning, 2018: a unit without any would sit where no
    gradient reaches it.
    """

    rises = True

    def __init__(
        self,
        model: nn.Module,
        structure: Structure,
        *,
        budget: Mapping[str, float],
        criterion: str = "l2",
        allocator: str = "uniform",
    ) -> None:
        """budget: one fraction that is kept in the end, such as `{"macs": 0.5}`. criterion: one that needs no data.

        Raises BudgetError for another budget, ScoreError for a criterion that reads data.
        """
        budgets = parse_budgets(budget)
        if len(budgets) != 1 or not UNITS[budgets[0].unit].fraction or not 0 < budgets[0].value <= 1:
            raise BudgetError(f"got budget {dict(budget)}; a target takes one fraction that is kept, such as macs=0.5")
        self.structure, self.unit, self.share = structure, budgets[0].unit, 1 - budgets[0].value
        self._criterion, self._scored, self._allocator = criterion, CRITERIA.get(criterion), allocator
        if getattr(self._scored, "needs", ()):
            raise ScoreError(f"criterion {criterion!r} reads data, which a target has none of; choose one like l2")
        self._axes = tuple(axis for axis in structure.axes if axis.chosen and axis.role != "blocks")
        self._tensors = {found.name: found.tensor for found in named_tensors(model)}
        parameters = dict(model.named_parameters())
        self.weights = {name: parameters[name] for name in parameters if self._makes(name)}

    def see(self, values: Values) -> None:
        """Magnitudes need no watching."""

    def masks(self, values: Values, share: float | None = None) -> Masks:
        plan = self.plan(values, share)
        made: dict[str, Tensor] = {}
        for name, value in values.items():
            removed = removed_mask(value.shape, self._dims(name), plan, value.device)
            made[name] = ~removed.expand(value.shape)
        return made

    def plan(self, values: Values, share: float | None = None) -> Plan:
        """What to cut for good; see `masks`."""
        tensors = {name: values.get(name, tensor).detach() for name, tensor in self._tensors.items()}
        with torch.no_grad():
            found = self._scored(Question(self.structure, tensors, self._axes))
        scores = Scores(self._criterion, {axis: part.double().cpu().numpy() for axis, part in found.items()})
        kept = 1 - (self.share if share is None else share)
        return allocate(self.structure, scores, {self.unit: kept}, allocator=self._allocator)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """There is none."""

    def _dims(self, name: str) -> list[Any]:
        """The dimensions of a weight, without the one along which it reads."""
        dims: list[Any] = list(self.structure.tensors[name].dims)
        if name in self.structure.reads:
            dims[self.structure.reads[name]] = 1
        return dims

    def _makes(self, name: str) -> bool:
        spec = self.structure.tensors.get(name)
        wanted = {axis.name for axis in self._axes}
        return (
            spec is not None and len(spec.shape) > 1 and any(a in wanted for e in self._dims(name) for a in axes_of(e))
        )
