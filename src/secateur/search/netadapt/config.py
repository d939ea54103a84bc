"""How a search goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from secateur.allocate import ALLOCATORS
from secateur.allocate.rounding import AUTO, multiple_of
from secateur.recover import SECOND_ORDER, allocator_for, stages_of
from secateur.score import CRITERIA
from secateur.spec import BudgetError
from secateur.structure.selectors import Selector
from secateur.train import TrainConfig


def _short_training() -> TrainConfig:
    return TrainConfig(learning_rate=0.01, schedule="cosine", batch_size=128)


@dataclass(frozen=True)
class SearchConfig:
    """How a search goes; every field is an option of the command line too."""

    criterion: str = "l2"
    """What goes first within a block of the network: an axis, or axes that are tied."""
    block_ratio: float = 0.1
    """Share of the network's cost that an iteration takes from a single block."""
    together: str = "auto"
    """How one more candidate shares the step out over all blocks: an allocator, `auto` for the one that `prune` would
    take, or `none` for no such candidate."""
    decay: float = 1.0
    """Factor of that from one iteration to the next."""
    round_to: int | str = 1
    """Kept counts are multiples of this while searching."""
    final_round_to: int | str = 1
    """All kept counts become multiples of this after the search."""
    min_keep: int = 1
    ignore: Sequence[Selector] = ()
    targets: Sequence[Selector] = ()
    granularity: str | Sequence[str] = ()
    recover: str = "refit"
    """Healing of each candidate, without training, before it is judged or trained."""
    calibration: int = 256
    """Training images that healing and criteria look at."""
    held_out: float = 0.1
    """Share of the training images that judge; none of them is trained on, or looked at."""
    judge_by: Literal["accuracy", "loss"] = "accuracy"
    """What the race is about. On few images the loss tells apart what is equally accurate by chance."""
    short_steps: int = 50
    """Training of a candidate that is in the race to the end."""
    winner_steps: int = 0
    """More training of the candidate that won the race, before the next iteration."""
    exhaustive: bool = False
    """Train every candidate to the end. Otherwise half of them leave the race after the healing, and half of the rest
    after half of the steps."""
    short_training: TrainConfig = field(default_factory=_short_training)
    teacher: float = 0.0
    """Weight of the dense network's answers in every training, 0..1; the labels' is the rest."""
    teacher_features: float = 0.0
    """Weight of the difference from what the dense network's residual blocks give."""
    long_epochs: int = 0
    """Training of the result."""
    long_training: TrainConfig = field(default_factory=TrainConfig)
    keep_scores: bool = False
    """Score the dense network alone, and go by these scores to the end; otherwise each iteration scores anew."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.judge_by not in ("accuracy", "loss"):
            raise BudgetError(f"judge_by={self.judge_by!r}: expected accuracy or loss")
        if self.together not in ("auto", "none"):
            ALLOCATORS.get(self.together)
        if self.criterion != SECOND_ORDER:
            CRITERIA.get(self.criterion)
        stages_of(self.recover)
        if self.round_to != AUTO:
            multiple_of(self.round_to)
        multiple_of(self.final_round_to)
        for name in ("block_ratio", "held_out"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise BudgetError(f"{name}={value}: expected a share above 0 and below 1")
        if not 0 < self.decay <= 1:
            raise BudgetError(f"decay={self.decay}: expected a factor above 0 and at most 1")
        if min(self.short_steps, self.winner_steps, self.long_epochs) < 0 or self.calibration < 1:
            raise BudgetError("short_steps, winner_steps and long_epochs must be at least 0, calibration at least 1")
        if not 0 <= self.teacher <= 1:
            raise BudgetError(f"teacher={self.teacher}: expected a weight in 0..1")
        if self.teacher_features < 0 or (self.teacher_features > 0 and not self.teacher):
            raise BudgetError(
                f"teacher_features={self.teacher_features}: expected at least 0, and more only beside a teacher above 0"
            )

    @property
    def allocator(self) -> str | None:
        """Of the cut of all blocks together; None for no such cut."""
        if self.together == "none":
            return None
        return allocator_for(self.criterion) if self.together == "auto" else self.together
