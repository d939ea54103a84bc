"""The loss of a batch: cross-entropy with the labels, as smoothed, mixed and weighted as asked for, and a teacher's
answers.

B images of a batch, N of the whole set, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.data import ImageSet
from secateur.spec import DataError, ModelError, SecateurError
from secateur.train.batches import Batch, Loader
from secateur.train.config import TrainConfig
from secateur.train.distillation import Distillation


@dataclass(frozen=True)
class Labels:
    """What becomes of labels in the loss."""

    smoothing: float = 0.0
    weight_C: Tensor | None = None
    """Of each class, as `balanced` gives them; 1 where there are none."""

    def loss(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Mean over images of `-sum_c weight_c q_c log p_c`, where `q` is the smoothed label.

        The mean is over the images, not over their weights as in torch, so that parts of a batch add up to the whole.
        """
        weight_C = self.weight_C
        if weight_C is not None and len(weight_C) != logits_BC.shape[1]:
            raise ModelError(
                f"class_weights: the model gives {logits_BC.shape[1]} scores per image, the data has {len(weight_C)} "
                "classes; take a model for these"
            )
        total = F.cross_entropy(logits_BC, labels_B, weight_C, label_smoothing=self.smoothing, reduction="sum")
        return total / len(labels_B)


def labels_of(data: ImageSet | Loader, config: TrainConfig, distillation: Distillation | None) -> Labels:
    """What the options make of the labels.

    Raises SecateurError for class weights where labels are not read, or not known before; DataError as `balanced`.
    """
    if config.class_weights == "none":
        return Labels(config.label_smoothing)
    if not isinstance(data, ImageSet):
        raise SecateurError(
            f"class_weights={config.class_weights!r} counts the labels of images in memory (open_data), and a loader "
            "does not tell its own; let its sampler weigh them, such as torch's WeightedRandomSampler"
        )
    if distillation is not None and distillation.alpha == 1:
        raise SecateurError(
            f"class_weights={config.class_weights!r} weighs labels, and learning from a teacher alone reads none; drop "
            "one of the two"
        )
    return Labels(config.label_smoothing, balanced(data.labels, data.classes).to(config.device))


def balanced(labels_N: Tensor, classes: Sequence[str]) -> Tensor:
    """Weights `(C,)` float32 of classes, `N / (C * images of the class)`: their mean over the images is 1.

    As `balanced` of scikit-learn (King and Zeng 2001). Raises DataError for a class without images.
    """
    counts_C = torch.bincount(labels_N, minlength=len(classes))
    if not bool(counts_C.all()):
        raise DataError(
            f"class_weights='balanced': class {classes[int(counts_C.argmin())]!r} has no training image, so its weight "
            "is not known; add some, or train without class_weights"
        )
    return len(labels_N) / (len(classes) * counts_C.float())


def loss_and_right(
    logits: Tensor, batch: Batch, distillation: Distillation | None, learnt: Labels
) -> tuple[Tensor, Tensor]:
    """Mean loss of scores `(B, classes)`, and how right the highest score of each image is, `(B,)` in 0..1.

    Right is the label; where a teacher alone is learnt from, the teacher's answer. Raises DataError without either.
    """
    answers = logits.argmax(1)
    if distillation is not None and distillation.alpha == 1:
        told = distillation.teach(batch.images)
        return distillation.loss(logits, told), (answers == told.argmax(1)).float()
    if batch.labels is None:
        raise DataError("the data has no labels; give some, or a distillation with alpha=1, which reads none")
    loss = _mixed_loss(logits, batch, batch.labels, learnt)
    right = batch.weight * (answers == batch.labels).float()
    if batch.partners is not None:
        right = right + (1 - batch.weight) * (answers == batch.partners).float()
    if distillation is not None:
        loss = distillation.loss(logits, distillation.teach(batch.images), loss)
    return loss, right


def _mixed_loss(logits: Tensor, batch: Batch, labels: Tensor, learnt: Labels) -> Tensor:
    loss = learnt.loss(logits, labels)
    if batch.partners is None:
        return loss
    return batch.weight * loss + (1 - batch.weight) * learnt.loss(logits, batch.partners)
