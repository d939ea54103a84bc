"""L1 on the scales of BatchNorms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from secateur.score import Question
from secateur.spec import BudgetError, Structure


class Slimming:
    """Adds the subgradient of `strength * |gamma|` to the gradient of every BatchNorm scale whose channel may go
    (Learning Efficient Convolutional Networks through Network Slimming, 2017). Cut with `criterion="bn-scale"`.

    strength: 1e-5 to 1e-2; the paper takes 1e-4 or 1e-5. Raises BudgetError where no such scale is.
    """

    def __init__(self, model: nn.Module, structure: Structure, *, strength: float = 1e-4) -> None:
        axes = tuple(axis for axis in structure.axes if axis.chosen and axis.role != "blocks")
        question = Question(structure, {}, axes)
        names = dict.fromkeys(name for axis in axes for name, _ in question.norm_scales(axis))
        if not names:
            raise BudgetError(
                f"slimming: {structure.model} has no BatchNorm scale along an axis that may be cut; take GroupLasso"
            )
        self.scales = {name: model.get_parameter(name) for name in names}
        self.strength = strength

    def step(self, take: Callable[[], None]) -> None:
        with torch.no_grad():
            for scale in self.scales.values():
                if scale.grad is not None:
                    scale.grad.add_(scale.sign(), alpha=self.strength)
        take()
