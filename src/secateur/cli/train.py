"""`secateur train`: a network from random weights."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.cli.options import TrainingOptions
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Options of `train`; the defaults suit small convolutional networks."""


def run(options: Options) -> Outcome:
    """Train a network and save it."""
    from secateur.cli.opening import look_up
    from secateur.cli.training import train_and_save

    return train_and_save("train", options, look_up(options))
