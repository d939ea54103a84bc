"""Pruning while training, with a way back for weights that turn out to matter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.sparse.allocation import WEIGHT_ALLOCATORS
from secateur.sparse.making import Request, make_masks
from secateur.sparse.masks import layouts, prunable_weights
from secateur.sparse.pattern import Pattern
from secateur.spec import BudgetError


class Regrowing:
    """Called after each optimizer step, it holds the lowest magnitudes at zero, and chooses them anew now and then.

        regrowing = Regrowing(model, sparsity=0.98, steps=5000)
        fit(model, data, config=..., after_step=regrowing)
        result = prune(model, inputs, granularity="element", budget={"sparsity": 0.98}, allocator="global")

    A removed weight keeps the value that it had, and goes on receiving the gradients that the network has with a zero
    in its place; where that makes it large again, it returns (Dynamic Model Pruning with Feedback, 2020, algorithm 1;
    Dynamic Network Surgery, 2016, calls it splicing). With `memory=0` it forgets that value, and hardly ever returns:
    gradual magnitude pruning (To Prune or Not to Prune, 2017). The share that is removed rises by 1 - (1 - t)^3 over
    `steps` steps (eq. 1 of the last) and stays; with a learning rate that falls to zero, the choice settles by itself.
    Weights and biases that are not pruned train as ever. The model holds the zeros after every step, so what `prune`
    takes from it at the same sparsity and by magnitude are these very zeros.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        sparsity: float,
        steps: int,
        granularity: str = "element",
        allocator: str = "global",
        memory: float = 1.0,
        every: int = 16,
    ) -> None:
        """sparsity: share of the prunable weights that goes in the end, in [0, 1). every: steps between two choices.
        memory: share of its value that a removed weight keeps from step to step, 0 to 1. Where nearly all
        weights go, 1 lets so many return by chance that training suffers; take 0 there.

        Raises BudgetError for another sparsity or memory, no steps, or an N:M granularity, whose share cannot rise.
        """
        pattern = Pattern.parse(granularity)
        fits = 0 <= sparsity < 1 and 0 <= memory <= 1 and steps >= 1 and every >= 1
        if not fits or pattern.keep_per_group is not None:
            raise BudgetError(
                f"regrowing: got sparsity={sparsity}, memory={memory}, steps={steps}, every={every}, "
                f"granularity={granularity}; expected a sparsity in [0, 1), a memory in [0, 1], at least one step, and "
                "any granularity but N:M"
            )
        self.weights = prunable_weights(model)
        self.masks: dict[str, Tensor] = {}
        """True at the weights that stay, after the last step; empty before the first."""
        self._values: dict[str, Tensor] = {}
        self._layouts = layouts(model)
        self._request = (pattern, WEIGHT_ALLOCATORS.get(allocator))
        self._sparsity, self._steps, self._every = sparsity, steps, every
        self._memory = memory
        self._done = 0

    def __call__(self, _model: nn.Module) -> None:
        """Take in what the optimizer did, choose if it is time to, and set the zeros."""
        self._done += 1
        with torch.no_grad():
            if not self.masks:  # where the weights are by now: loops move models to their device
                self.masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in self.weights.items()}
                self._values = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
            for name, weight in self.weights.items():
                # what was at zero moved by what it is now
                self._values[name].mul_(~self.masks[name] * self._memory).add_(weight)
            if self._done % self._every == 0 or self._done == self._steps:
                self.masks = self._chosen()
            for name, weight in self.weights.items():
                weight.copy_(self._values[name] * self.masks[name])

    def _chosen(self) -> dict[str, Tensor]:
        left = max(0.0, 1 - self._done / self._steps)
        pattern, allocator = self._request
        request = Request(pattern, self._sparsity * (1 - left**3), allocator, {})
        scores = {name: values.abs() for name, values in self._values.items()}
        return make_masks(scores, self._values, self._layouts, request)
