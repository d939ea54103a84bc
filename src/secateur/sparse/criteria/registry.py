"""Criteria for single weights by name.

A criterion is a function from a `WeightQuestion` to one tensor of scores per parameter, of the parameter's shape. It is
called once per pruning. The lowest scores go first. A parameter that it gives no scores stays whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from secateur.score.gradients import Batch
from secateur.score.statistics import Statistics
from secateur.sparse.layout import Layout
from secateur.sparse.pattern import Pattern
from secateur.spec import Registry, ScoreError
from secateur.structure.capture import Inputs


@dataclass(frozen=True)
class WeightQuestion:
    """What a criterion may look at."""

    model: nn.Module
    """A copy, in eval mode; may be run, must not be changed."""
    inputs: Inputs
    """Examples."""
    weights: Mapping[str, Tensor]
    """Values of the weights that are asked about, by parameter."""
    layouts: Mapping[str, Layout]
    batches: Sequence[Batch]
    """Calibration data; empty where none was given."""
    sparsity: float
    """Share of the weights that will go, for criteria that prune in rounds."""
    seed: int
    pattern: Pattern
    """Which weights leave together; the scores of a block are averaged."""
    statistics: Statistics | None = None
    """Sums over the data, of the kinds that the criterion needs."""

    def measured(self, kind: str, name: str) -> Tensor:
        """The mean over samples of what was measured of one kind for a parameter."""
        if self.statistics is None:
            raise ScoreError(f"nothing was measured, {kind} is needed; give data= (--data on the command line)")
        found = self.statistics.of(kind).get(name)
        total = found if found is not None else self.weights[name].new_zeros(self.weights[name].shape).double().cpu()
        return total / self.statistics.count("gradients")


WeightCriterion = Callable[[WeightQuestion], Mapping[str, Tensor]]

WEIGHT_CRITERIA: Registry[WeightCriterion] = Registry("weight-criteria")


def compares_in_rows(criterion: WeightCriterion) -> WeightCriterion:
    """Decorator: scores are compared within each output, where the allocator is `uniform`."""
    criterion.in_rows = True  # type: ignore[attr-defined]
    return criterion
