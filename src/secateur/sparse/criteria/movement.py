"""Movement: whether training takes a weight away from zero or towards it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.sparse.criteria.registry import WeightQuestion
from secateur.sparse.masks import prunable_weights
from secateur.spec import ScoreError


class Movement:
    """A criterion that adds up minus weight times gradient while the model is trained (Movement Pruning, 2020, eq. 2).

        with Movement(model) as movement:
            fit(model, ...)                                   # or any loop that calls backward
        prune(model, inputs, granularity="element", budget=..., criterion=movement)

    Every backward counts, with the weights as they are then. The paper multiplies by the learning rate, which changes
    no order while it is constant.
    """

    def __init__(self, model: nn.Module) -> None:
        self.scores = {name: torch.zeros_like(weight) for name, weight in prunable_weights(model).items()}
        self._handles = [
            weight.register_hook(self._watching(name, weight)) for name, weight in prunable_weights(model).items()
        ]

    def _watching(self, name: str, weight: nn.Parameter):
        def watch(gradient: Tensor) -> None:
            self.scores[name] -= weight.detach() * gradient.detach()

        return watch

    def __enter__(self) -> Movement:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Watch no more."""
        for handle in self._handles:
            handle.remove()

    def __call__(self, question: WeightQuestion) -> dict[str, Tensor]:
        """The scores; raises ScoreError where the model was not trained meanwhile, or is another."""
        if not any(bool(score.any()) for score in self.scores.values()):
            raise ScoreError("no gradient was seen; train the model while Movement(model) watches it")
        for name, weight in question.weights.items():
            if name not in self.scores or self.scores[name].shape != weight.shape:
                raise ScoreError(f"movement was watched on another model: {name!r} does not fit")
        return {name: self.scores[name] for name in question.weights}
