"""ADMM: training under a constraint on what is not zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.spec import BudgetError
from secateur.train.methods.state import under
from secateur.train.methods.targets import Target


class ADMM:
    """Weights W are drawn towards the nearest Z that has the target's zeros (A Systematic DNN Weight Pruning Framework
    using ADMM, 2018). In each step, `rho (W - Z + U)` is added to the gradients; every `every` steps
    `Z = P(W + U)` and `U += W - Z`, where the projection P zeroes what the target chooses: single weights, channels,
    N:M, blocks. Then rho grows by the factor `growth`, up to `ceiling`, and U shrinks by it, being the dual over rho.

    At the end W is near Z, and `prune` takes what is left of the difference. Choose `every` so that some ten
    updates fit, and rho so that the residual falls: it is near 0.01 when little is lost. For SGD, as the pull is part
    of the gradient.
    """

    def __init__(
        self, target: Target, *, rho: float = 1e-3, growth: float = 1.1, ceiling: float = 1.0, every: int = 100
    ) -> None:
        """Raises BudgetError for values that make no sense."""
        if not (0 < rho <= ceiling and growth >= 1 and every >= 1):
            raise BudgetError(
                f"ADMM: got rho={rho}, growth={growth}, ceiling={ceiling}, every={every}; expected 0 < rho <= ceiling, "
                "growth >= 1 and every >= 1"
            )
        self.target, self.rho = target, rho
        self._growth, self._ceiling, self._every = growth, ceiling, every
        self._done = 0
        self._sparse: dict[str, Tensor] = {}
        self._dual: dict[str, Tensor] = {}

    @property
    def residual(self) -> float:
        """`||W - Z|| / ||W||` over all weights of the target: what the cut would change."""
        apart = sum(float((weight - self._sparse[name]).square().sum()) for name, weight in self._weights())
        return (apart / sum(float(weight.square().sum()) for _, weight in self._weights())) ** 0.5

    def step(self, take: Callable[[], None]) -> None:
        with torch.no_grad():
            if not self._sparse:
                self._dual = {name: torch.zeros_like(weight) for name, weight in self._weights()}
                self._project()
            for name, weight in self.target.weights.items():
                if weight.grad is not None:
                    weight.grad.add_(weight - self._sparse[name] + self._dual[name], alpha=self.rho)
        take()
        self._done += 1
        if self._done % self._every == 0:
            with torch.no_grad():
                self._update()

    def _weights(self) -> list[tuple[str, Tensor]]:
        return [(name, weight.detach()) for name, weight in self.target.weights.items()]

    def _project(self) -> None:
        wanted = {name: weight + self._dual[name] for name, weight in self._weights()}
        masks = self.target.masks(wanted)
        self._sparse = {name: value * masks[name] for name, value in wanted.items()}

    def _update(self) -> None:
        self._project()
        before, self.rho = self.rho, min(self._ceiling, self.rho * self._growth)
        for name, weight in self._weights():
            self._dual[name].add_(weight - self._sparse[name]).mul_(before / self.rho)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"done": self._done, "rho": self.rho}
        state |= {f"sparse.{name}": value for name, value in self._sparse.items()}
        return state | {f"dual.{name}": value for name, value in self._dual.items()}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._done, self.rho = int(state["done"]), float(state["rho"])
        self._sparse, self._dual = (under(prefix, state, self.target.weights) for prefix in ("sparse.", "dual."))
