"""A target of whole channels, through the structure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.allocate import allocate
from secateur.score import CRITERIA, Question
from secateur.sparse import Masks
from secateur.spec import UNITS, BudgetError, Plan, ScoreError, Scores, Structure, TensorSpec, parse_budgets
from secateur.spec.expr import axes_of
from secateur.surgery.select import removed_mask
from secateur.train.methods.targets import Values


class Channels:
    """Whole channels, heads and other axes of a structure, by the weights that make them. What reads a channel is left
    as it is: it tells how to bring the channel back. `secateur.shrink(model, target.plan())` cuts what is zero.

    Biases and scales of norms are left as well, as in Soft Filter Pruning, 2018: a unit without any would sit where no
    gradient reaches it. So a channel of zeros may still put out a constant, which the cut takes away. `whole=True`
    takes them along, for what need not come back: `ADMM`, `GrowingPenalty`. Behind a BatchNorm nothing else is felt.
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
        whole: bool = False,
    ) -> None:
        """budget: one fraction that is kept in the end, such as `{"macs": 0.5}`. criterion: one of weights alone.

        Raises BudgetError for another budget, ScoreError for a criterion that reads data.
        """
        budgets = parse_budgets(budget)
        unit = UNITS.get(budgets[0].unit)
        if len(budgets) != 1 or unit is None or not unit.fraction:
            raise BudgetError(f"got budget {dict(budget)}; a target takes one fraction that is kept, such as macs=0.5")
        self.structure, self.unit, self.share = structure, budgets[0].unit, 1 - budgets[0].value
        self._criterion, self._scored, self._allocator = criterion, CRITERIA.get(criterion), allocator
        if getattr(self._scored, "needs", ()):
            raise ScoreError(f"criterion {criterion!r} reads data, which a target has none of; choose one like l2")
        self._axes = tuple(axis for axis in structure.axes if axis.chosen and axis.role != "blocks")
        self._whole = whole
        self._makers = {name: spec for name, spec in map(self._making, structure.tensors.items()) if spec is not None}
        parameters = dict(model.named_parameters())
        self.weights: Mapping[str, nn.Parameter] = {name: parameters[name] for name in self._makers}

    def see(self, values: Values) -> None:
        """Magnitudes need no watching."""

    def masks(self, values: Values, share: float | None = None) -> Masks:
        plan = self.plan(values, share)
        made: dict[str, Tensor] = {}
        for name, spec in self._makers.items():
            value = values[name]
            made[name] = ~removed_mask(value.shape, spec.dims, plan, value.device).expand(value.shape)
        return made

    def plan(self, values: Values | None = None, share: float | None = None) -> Plan:
        """What to cut for good; the arguments as of `masks`, the values those of now where none are given."""
        tensors = {name: weight.detach() for name, weight in (self.weights if values is None else values).items()}
        with torch.no_grad():
            found = self._scored(Question(replace(self.structure, tensors=self._makers), tensors, self._axes))
        scores = Scores(self._criterion, {axis: part.double().cpu().numpy() for axis, part in found.items()})
        kept = 1 - (self.share if share is None else share)
        return allocate(self.structure, scores, {self.unit: kept}, allocator=self._allocator)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """There is none."""

    def _making(self, item: tuple[str, TensorSpec]) -> tuple[str, TensorSpec | None]:
        """A parameter without the axes that it reads; None where it makes none that may go."""
        name, spec = item
        read = self.structure.reads.get(name)
        dims = tuple(spec.shape[dim] if dim == read else expr for dim, expr in enumerate(spec.dims))
        made = {axis for expr in dims for axis in axes_of(expr)} & {axis.name for axis in self._axes}
        is_meant = spec.kind == "parameter" and (self._whole or len(spec.shape) > 1)
        return name, replace(spec, dims=dims) if is_meant and made else None
