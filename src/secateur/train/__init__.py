"""Training and evaluation of classifiers."""

from secateur.train.config import TrainConfig
from secateur.train.evaluate import evaluate
from secateur.train.loop import fit

__all__ = ["TrainConfig", "evaluate", "fit"]
