"""Group lasso over whole groups of the structure, by its proximal step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from secateur.spec import Structure
from secateur.train.methods.groups import Groups


class GroupLasso:
    """After each optimizer step, each group W_g of n_g entries is shrunk by the factor
    `max(0, 1 - strength * sqrt(n_g) / ||W_g||)`, which makes exact zeros (Learning Structured Sparsity in Deep Neural
    Networks, 2016, penalises by `sum_g sqrt(n_g) ||W_g||`; this is its proximal operator, not its subgradient).

    A group is all that leaves together: rows, columns, biases, scales. An entry in two groups (the row of one channel,
    the column of another) is shrunk by both factors, each from the norms before.
    strength: the paper's lambda times the learning rate, 1e-6 to 1e-3: what a root mean square weight loses a step.
    """

    def __init__(self, model: nn.Module, structure: Structure, *, strength: float = 1e-5) -> None:
        self.groups, self.strength = Groups(model, structure), strength

    def step(self, take: Callable[[], None]) -> None:
        take()
        with torch.no_grad():
            factors = {
                axis: (1 - self.strength * self.groups.counts[axis].to(norm).sqrt() / norm.clamp(min=1e-30)).clamp(
                    min=0
                )
                for axis, norm in self.groups.norms().items()
            }
            for name, factor in self.groups.spread(factors).items():
                self.groups.parameters[name].mul_(factor)
