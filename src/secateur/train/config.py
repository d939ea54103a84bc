"""What a training run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from secateur.spec import SecateurError

Schedule = Literal["one-cycle", "cosine", "step", "constant"]
OptimizerName = Literal["sgd", "adamw"]
Precision = Literal["fp32", "bf16", "fp16"]
ClassWeights = Literal["none", "balanced"]


@dataclass(frozen=True)
class TrainConfig:
    """Options of `fit`; the defaults train a small convolutional network from scratch."""

    epochs: int = 10
    batch_size: int = 128
    """Images per optimizer step, of all processes together."""
    learning_rate: float = 0.1
    """The largest of the schedule."""
    momentum: float = 0.9
    """Of SGD; AdamW has none."""
    weight_decay: float = 5e-4
    schedule: Schedule = "one-cycle"
    optimizer: OptimizerName = "sgd"
    seed: int = 0
    """Of the order of the images, their augmentation, and dropout."""
    augment: bool = False
    max_steps: int | None = None
    """Stop after so many optimizer steps, in the middle of an epoch if need be."""
    device: str = "cpu"
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes."""
    class_weights: ClassWeights = "none"
    """Of the loss on labels: `balanced` weighs each label by images / (classes * images of its class), counted in the
    training images. Evaluation stays unweighted."""
    mixup: float = 0.0
    """Images are mixed in pairs by a weight drawn from Beta(mixup, mixup), labels likewise; 0 for none."""
    ema: float = 0.0
    """Decay per step of a moving average of the weights, which the model ends with; 0 for none."""
    precision: Precision = "fp32"
    """Of forward and backward; weights stay as they are. fp16 scales the loss, bf16 need not."""
    channels_last: bool = False
    """Let convolutions have their channels innermost in memory while training, which is faster on most devices; values
    stay, sums differ in the last digits."""
    accumulate: int = 1
    """Parts in which each batch goes through, for networks that have no memory for the whole; steps stay the same."""
    early_stopping: int | None = None
    """Stop after so many epochs without a better validation, and go back to the best."""

    def __post_init__(self) -> None:
        for name, least in (
            ("epochs", 1),
            ("batch_size", 1),
            ("learning_rate", 0),
            ("weight_decay", 0),
            ("momentum", 0),
            ("mixup", 0),
            ("accumulate", 1),
        ):
            self._demand(name, getattr(self, name) >= least, f"must be at least {least}")
        for name in ("label_smoothing", "ema"):
            self._demand(name, 0 <= getattr(self, name) < 1, "must be at least 0 and below 1")
        for name in ("max_steps", "early_stopping"):
            value = getattr(self, name)
            self._demand(name, value is None or value >= 1, "must be at least 1, or None")
        kinds: tuple[tuple[str, Any], ...] = (
            ("schedule", Schedule),
            ("optimizer", OptimizerName),
            ("precision", Precision),
            ("class_weights", ClassWeights),
        )
        for name, kind in kinds:
            self._demand(name, getattr(self, name) in get_args(kind), f"expected {' or '.join(get_args(kind))}")

    def _demand(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise SecateurError(f"training option {name}={getattr(self, name)!r}: {expected}")
