"""What a training run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secateur.spec import SecateurError


@dataclass(frozen=True)
class TrainConfig:
    """Options of `fit`; the defaults train a small convolutional network from scratch."""

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.1
    """The largest of the schedule."""
    momentum: float = 0.9
    """Of SGD; AdamW has none."""
    weight_decay: float = 5e-4
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    optimizer: Literal["sgd", "adamw"] = "sgd"
    seed: int = 0
    """Of the order of the images, their augmentation, and dropout."""
    augment: bool = False
    max_steps: int | None = None
    """Stop after so many optimizer steps, in the middle of an epoch if need be."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("learning_rate", 0),
            ("weight_decay", 0),
            ("momentum", 0),
        ):
            value = getattr(self, name)
            if not value >= least:
                raise SecateurError(f"training option {name}={value}: must be at least {least}")
        if self.max_steps is not None and self.max_steps < 1:
            raise SecateurError(f"training option max_steps={self.max_steps}: must be at least 1, or None")
        for name, known in (("schedule", ("one-cycle", "cosine", "constant")), ("optimizer", ("sgd", "adamw"))):
            if getattr(self, name) not in known:
                raise SecateurError(f"training option {name}={getattr(self, name)!r}: expected {' or '.join(known)}")
