"""Depth: how much a residual block does."""

from __future__ import annotations

import torch

from secateur.score.question import Question
from secateur.score.registry import CRITERIA, needs


@CRITERIA.register(
    "block-influence", "one minus the cosine between a block's input and output: blocks alone (ShortGPT, 2024)"
)
@needs("influence")
def block_influence(question: Question) -> dict[str, torch.Tensor]:
    """ShortGPT: Layers in Large Language Models are More Redundant Than You Expect, 2024, eq. 1: the mean over all
    tokens, or pixels, of all samples; from 0 (the block only scales its input) to 2. Axes inside blocks get no score
    and stay whole."""
    cosines, counts = question.statistics.of("cosine"), question.statistics.of("positions")
    return {
        block.name: (1 - cosines[block.name] / counts[block.name]).reshape(1)
        for block in question.blocks
        if block.name in cosines
    }
