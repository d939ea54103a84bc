"""Accuracy and loss of a classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from secateur.data import ImageSet
from secateur.structure.modes import eval_mode
from secateur.train.outputs import logits_of


def evaluate(
    model: nn.Module, data: ImageSet, *, batch_size: int = 256, device: str | torch.device = "cpu"
) -> dict[str, float]:
    """`{"accuracy": 0..1, "loss": mean cross-entropy}` in eval mode; each module's mode is as before afterwards.

    `device` is where the model lies. Raises ModelError where the model returns no class scores.
    """
    correct, loss = 0, 0.0
    with eval_mode(model), torch.no_grad():
        for images, labels in data.batches(batch_size, device=device):
            logits = logits_of(model(images)).float()
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return {"accuracy": correct / len(data), "loss": loss / len(data)}
