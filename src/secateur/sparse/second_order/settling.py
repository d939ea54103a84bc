"""Steps of all weights that are left, in closed form, towards the outputs of the reference network, one after the other
as long as they bring the outputs nearer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from secateur.score.gradients import Batch, at_least, sample_count
from secateur.sparse.second_order.gauss_newton import gauss_newton_step
from secateur.sparse.second_order.layers import Layer
from secateur.sparse.second_order.moments import measure_moments
from secateur.sparse.second_order.outputs import Judge
from secateur.sparse.second_order.sketch import diagonal, row_importance, sketches

STEPS = 3
"""At most."""
ENOUGH = 0.98
"""What a step has to leave of the divergence, at most, for another one to follow."""
CHECK = 512
"""Samples that judge steps, at least, where the data holds as many."""

Rows = dict[str, Tensor]
"""By weight, `(R, D)`: its rows, and the constant in the last column."""


@dataclass(frozen=True)
class Task:
    """What is pruned, and how the network is looked at."""

    model: nn.Module
    """Is changed; in eval mode, and no parameter needs a gradient."""
    reference: nn.Module
    layers: Mapping[str, Layer]
    """Of the model; all are called."""
    read: Callable[[], Iterable[Batch]]
    """Starts reading the data anew."""
    generator: torch.Generator

    def look(self) -> tuple[Rows, Rows]:
        """Second moments of what each layer reads, now, and how much each of its rows counts."""
        hessians = measure_moments(self.model, self.layers, self.read(), self.generator)
        return hessians, row_importance(self.model, self.reference, self.layers, self.read(), hessians, self.generator)

    @cached_property
    def samples(self) -> int:
        """How many the data holds."""
        return sum(sample_count(inputs) for inputs, _ in self.read())

    @cached_property
    def judge(self) -> Judge:
        """On some batches, as they come once."""
        return Judge(self.reference, at_least(self.read(), CHECK))


def matters(hessian_GDD: Tensor, counts_R: Tensor) -> Tensor:
    """How much each weight of some rows matters, `(R, D)`."""
    return counts_R[:, None] * diagonal(hessian_GDD, len(counts_R))


def settle_(task: Task, kept: Rows, importance: Rows) -> None:
    """Bring the outputs nearer to the reference's; weights that are not kept stay zero."""
    now = task.judge(task.model)
    for _ in range(STEPS):
        looked = sketches(task.model, task.reference, task.layers, task.read(), task.generator)
        change = gauss_newton_step(looked, kept, importance)
        if change is None:
            return
        state = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
        for name, layer in task.layers.items():
            layer.write_(task.model, layer.values() + change[name])
        before, now = now, task.judge(task.model)
        if not now < before:
            task.model.load_state_dict(state)
        if not now < ENOUGH * before:
            return
