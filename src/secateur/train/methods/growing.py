"""Growing regularisation: what is to go is pushed towards zero ever harder, so that the network can let go of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from secateur.spec import BudgetError
from secateur.train.methods.state import under
from secateur.train.methods.targets import Target


class GrowingPenalty:
    """Adds `coefficient * w` to the gradients of what the target chooses; the coefficient grows by `delta` every
    `every` steps, up to `ceiling` (Neural Pruning via Growing Regularization, 2021).

    - `pick_at=0` chooses at once: the paper's GReg-1.
    - With `pick_at=c` all weights of the target are pushed until the coefficient is c, and the choice is made by the
      magnitudes that they have then, which shows what the loss holds on to: GReg-2 (there c = 0.01).

    The network is to be a trained one, or `start` late. For SGD: optimizers that divide by the size of gradients
    (AdamW) take the growth away. The learning rate times the ceiling must stay below 2.
    """

    def __init__(
        self,
        target: Target,
        *,
        delta: float = 1e-4,
        every: int = 5,
        ceiling: float = 1.0,
        pick_at: float = 0.0,
        start: int = 0,
    ) -> None:
        """start: steps before anything is done. Raises BudgetError where the coefficient would not grow, or never reach
        what is picked at."""
        if not (delta > 0 and every >= 1 and 0 <= pick_at <= ceiling and start >= 0):
            raise BudgetError(
                f"growing penalty: got delta={delta}, every={every}, ceiling={ceiling}, pick_at={pick_at}, "
                f"start={start}; expected delta > 0, every >= 1, 0 <= pick_at <= ceiling and start >= 0"
            )
        self.target = target
        self.masks: dict[str, Tensor] = {}
        """True at what stays; empty before the choice."""
        self._delta, self._every, self._ceiling, self._pick_at = delta, every, ceiling, pick_at
        self._start, self._done = start, 0

    @property
    def coefficient(self) -> float:
        """Of the L2 penalty, by now."""
        return min(self._ceiling, self._delta * (max(0, self._done - self._start) // self._every))

    def step(self, take: Callable[[], None]) -> None:
        weights = self.target.weights
        with torch.no_grad():
            if not self.masks and self._done >= self._start and self.coefficient >= self._pick_at:
                self.masks = dict(self.target.masks({name: weight.detach() for name, weight in weights.items()}))
            for name, weight in weights.items():
                if weight.grad is not None:
                    pushed = weight * ~self.masks[name] if self.masks else weight
                    weight.grad.add_(pushed, alpha=self.coefficient)
        take()
        self._done += 1

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done, **{f"mask.{name}": mask for name, mask in self.masks.items()}}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._done = int(state["done"])
        self.masks = under("mask.", state, self.target.weights)
