"""The loss of a batch: cross-entropy with the labels, as smoothed and mixed as asked for, and a teacher's answers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from secateur.spec import DataError
from secateur.train.batches import Batch
from secateur.train.distillation import Distillation


def loss_and_right(
    logits: Tensor, batch: Batch, distillation: Distillation | None, *, label_smoothing: float
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
    loss = _mixed_loss(logits, batch, batch.labels, label_smoothing)
    right = batch.weight * (answers == batch.labels).float()
    if batch.partners is not None:
        right = right + (1 - batch.weight) * (answers == batch.partners).float()
    if distillation is not None:
        loss = distillation.loss(logits, distillation.teach(batch.images), loss)
    return loss, right


def _mixed_loss(logits: Tensor, batch: Batch, labels: Tensor, smoothing: float) -> Tensor:
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if batch.partners is None:
        return loss
    other = F.cross_entropy(logits, batch.partners, label_smoothing=smoothing)
    return batch.weight * loss + (1 - batch.weight) * other
