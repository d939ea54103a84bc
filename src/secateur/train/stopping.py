"""Early stopping: the best weights so far, and when to give up on better ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

BEST = "best."
"""Prefix of the best weights among what a checkpoint keeps."""


class Stopping:
    """Follows a validation from epoch to epoch. More accurate is better; of equal accuracies the lower loss is."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.waited = 0
        """Epochs since the best one."""
        self._best: tuple[float, float] | None = None
        self._weights: dict[str, Any] = {}

    @property
    def gave_up(self) -> bool:
        """Whether nothing became better for too long."""
        return self.waited >= self.patience

    def saw(self, accuracy: float, loss: float, model: nn.Module) -> None:
        """Take in the validation of the model as it is, and keep its weights where they are the best so far."""
        found = (accuracy, -loss)
        if self._best is not None and found <= self._best:
            self.waited += 1
            return
        self._best, self.waited = found, 0
        self._weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def restore(self, model: nn.Module) -> None:
        """Give the model its best weights."""
        model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """All of it, flat."""
        best = None if self._best is None else list(self._best)
        return {"waited": self.waited, "score": best, **{BEST + name: value for name, value in self._weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.waited, best = state["waited"], state["score"]
        self._best = None if best is None else (best[0], best[1])
        self._weights = {name.removeprefix(BEST): value for name, value in state.items() if name.startswith(BEST)}
