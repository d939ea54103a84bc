"""Pruning while training: zeros that become more along a curve, are chosen anew, and may come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.spec import BudgetError
from secateur.train.methods.curves import Curve, cubic
from secateur.train.methods.state import under
from secateur.train.methods.targets import Target


class SparsitySchedule:
    """After each optimizer step it holds at zero what its target chooses, along a curve, and chooses anew now and then.

        schedule = SparsitySchedule(Weights(model, sparsity=0.98), steps=5000)
        fit(model, data, config=..., methods=[schedule])
        result = prune(model, inputs, granularity="element", budget={"sparsity": 0.98}, allocator="global")

    A removed weight keeps the value that it had, and goes on receiving the gradients that the network has with a zero
    in its place; where that makes it large again, it returns. The model holds the zeros after every step, so what
    `prune` takes from it at the same sparsity and by magnitude are these very zeros. What the papers call it:

    - `one_shot`; iterative pruning with `every=steps // rounds` and `linear` or `geometric`, and `memory=0`.
    - Gradual magnitude pruning, AGP (To Prune or Not to Prune, 2017): `cubic`, `memory=0`. Removed weights are zero
      here, where the paper's code keeps the value that they had.
    - Dynamic Model Pruning with Feedback (2020, algorithm 1): `memory=1`.
    - Dynamic Network Surgery (2016), splicing: `memory=1` and a `margin`; its thresholds 0.9 and 1.1 are a margin of
      0.22. The sparsity is given here, in place of the thresholds; the choices do not become rarer.
    - Movement Pruning (2020): target `WeightsByMovement`, `memory=1`.
    - Soft Filter Pruning (2018): target `Channels`, `soft=True`, `every` an epoch.
    - N:M from the first choice on, with gradients straight through: `Weights(model, granularity="2:4")`.
    """

    def __init__(
        self,
        target: Target,
        *,
        steps: int,
        curve: Curve = cubic,
        start: int = 0,
        every: int = 16,
        memory: float = 1.0,
        margin: float = 0.0,
        soft: bool = False,
    ) -> None:
        """steps: until the final share is reached; choices go on after that, but those of soft zeros. start: step at
        which the curve begins. every: steps between two choices.
        memory: share of its value that a removed weight keeps from step to step, 0 to 1. Where nearly all weights go, 1
        lets so many return by chance that training suffers; take 0 there.
        margin: by how much of itself what returns must be larger than what goes for it.
        soft: zeros are set when they are chosen, and train on from there, until `steps` are over.

        Raises BudgetError for values that make no sense.
        """
        if not (0 <= start < steps and every >= 1 and 0 <= memory <= 1 and margin >= 0):
            raise BudgetError(
                f"sparsity schedule: got steps={steps}, start={start}, every={every}, memory={memory}, "
                f"margin={margin}; expected 0 <= start < steps, every >= 1, a memory in [0, 1] and a margin >= 0"
            )
        self.target = target
        self.masks: dict[str, Tensor] = {}
        """True at what is not held at zero; empty before the first step."""
        self._values: dict[str, Tensor] = {}
        self._curve, self._start, self._steps, self._every = curve, start, steps, every
        self._memory, self._margin, self._soft = memory, margin, soft
        self._done = 0

    def step(self, take: Callable[[], None]) -> None:
        """Take in what the optimizer does, choose if it is time to, and set the zeros."""
        weights = self.target.weights
        if not self.masks:  # where the weights are by now: loops move models to their device
            self.masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
            self._values = {name: weight.detach().clone() for name, weight in weights.items()}
        with torch.no_grad():
            self.target.see(self._values)
        take()
        self._done += 1
        with torch.no_grad():
            for name, weight in weights.items():
                # what was at zero moved by what it is now
                self._values[name].mul_(~self.masks[name] * self._memory).add_(weight)
            chosen = self._choose() if self._is_time() else self.masks
            for name, weight in weights.items():
                weight.copy_(self._values[name] * chosen[name])
        if not self._soft or self._done >= self._steps:  # what is soft is let go at once, and trains on from zero
            self.masks = chosen

    def _is_time(self) -> bool:
        if self._done <= self._start or (self._soft and self._done > self._steps):
            return False
        return self._done % self._every == 0 or self._done == self._steps

    def _choose(self) -> dict[str, Tensor]:
        progress = min(1.0, (self._done - self._start) / (self._steps - self._start))
        held_back = {name: value / (1 + self._margin * ~self.masks[name]) for name, value in self._values.items()}
        share = self._curve(progress, self.target.share) if self.target.rises else None
        return dict(self.target.masks(held_back, share))

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"done": self._done}
        state |= {f"mask.{name}": mask for name, mask in self.masks.items()}
        state |= {f"value.{name}": value for name, value in self._values.items()}
        return state | {f"target.{name}": value for name, value in self.target.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._done = int(state["done"])
        self.masks, self._values = (under(prefix, state, self.target.weights) for prefix in ("mask.", "value."))
        self.target.load_state_dict(under("target.", state, self.target.weights))
