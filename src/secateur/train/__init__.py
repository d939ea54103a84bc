"""Training and evaluation of classifiers."""

from secateur.train.config import TrainConfig
from secateur.train.evaluate import eval_mode, evaluate
from secateur.train.loop import fit

__all__ = ["TrainConfig", "eval_mode", "evaluate", "fit"]
