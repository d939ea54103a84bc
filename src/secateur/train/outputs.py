"""Class scores out of whatever a network returns."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from secateur.spec import ModelError


def logits_of(output: Any) -> Tensor:
    """`(N, classes)` scores: the output itself, or its `logits` where the network returns a record."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
        raise ModelError(f"the model returned {found}, expected scores of shape (N, classes); take a classifier")
    return logits
