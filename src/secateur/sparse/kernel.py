"""Exact-k selection on tensors: which elements stay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep_largest(scores: Sequence[Tensor], remove: int) -> list[Tensor]:
    """Boolean masks, one per tensor of scores (any shape), False at exactly the `remove` lowest scores of all of them.

    Among equal scores those that come first stay: earlier tensors, then lower flat indices.
    """
    flat = torch.cat([score.reshape(-1) for score in scores])
    order = flat.argsort(descending=True, stable=True)
    keep = torch.ones_like(flat, dtype=torch.bool)
    keep[order[len(flat) - remove :]] = False
    pieces = keep.split([score.numel() for score in scores])
    return [piece.reshape(score.shape) for piece, score in zip(pieces, scores, strict=True)]
