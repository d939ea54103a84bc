"""Training and evaluation of classifiers, and what pruning trains with."""

from secateur.train.config import TrainConfig
from secateur.train.distillation import Distillation
from secateur.train.evaluate import evaluate
from secateur.train.features import block_features
from secateur.train.loop import fit
from secateur.train.method import Method, Stateful, nested
from secateur.train.tracking import JsonLines, TensorBoard, telling

__all__ = [
    "Distillation",
    "JsonLines",
    "Method",
    "Stateful",
    "TensorBoard",
    "TrainConfig",
    "block_features",
    "evaluate",
    "fit",
    "nested",
    "telling",
]
