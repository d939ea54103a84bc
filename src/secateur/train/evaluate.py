"""Accuracy and loss of a classifier, perplexity of a language model."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.data import ImageSet, TextSet
from secateur.spec import ModelError
from secateur.structure.modes import eval_mode
from secateur.train.outputs import logits_of

TOKENS_AT_ONCE = 4096
"""Of text, in one forward."""


def evaluate(
    model: nn.Module, data: ImageSet | TextSet, *, batch_size: int = 256, device: str | torch.device = "cpu"
) -> dict[str, float]:
    """Of images `{"accuracy": 0..1, "loss": mean cross-entropy}`, of text `{"perplexity": e ** loss, "loss": mean
    cross-entropy of each token given those before it in its sequence}`. In eval mode; each module's mode is as before
    afterwards.

    `device` is where the model lies; `batch_size` counts images, of text as many sequences go together as memory likes.
    Raises ModelError where the model returns no class scores, or no scores of tokens.
    """
    with eval_mode(model), torch.no_grad():
        return (
            _of_text(model, data, device) if isinstance(data, TextSet) else _of_images(model, data, batch_size, device)
        )


def _of_images(model: nn.Module, data: ImageSet, batch_size: int, device: str | torch.device) -> dict[str, float]:
    correct, loss = 0, 0.0
    for images, labels in data.batches(batch_size, device=device):
        logits = logits_of(model(images)).float()
        correct += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
    return {"accuracy": correct / len(data), "loss": loss / len(data)}


def _of_text(model: nn.Module, data: TextSet, device: str | torch.device) -> dict[str, float]:
    total = 0.0
    for inputs in data.batches(max(1, TOKENS_AT_ONCE // data.length), device=device):
        ids, scores = inputs["input_ids"], _token_scores(model(**inputs))
        for ids_L, scores_LV in zip(ids, scores, strict=True):  # one by one: in full precision they are large
            total += float(F.cross_entropy(scores_LV[:-1].float(), ids_L[1:], reduction="sum"))
    loss = total / (len(data) * (data.length - 1))
    return {"perplexity": float(torch.tensor(loss, dtype=torch.float64).exp()), "loss": loss}


def _token_scores(output: Any) -> Tensor:
    """`(B, L, vocabulary)`, of the token after each."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
        raise ModelError(
            f"the model returned {found}, expected scores of shape (N, tokens, vocabulary); take a causal one"
        )
    return logits
