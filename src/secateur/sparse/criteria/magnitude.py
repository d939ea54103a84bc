"""What the weights say by themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.sparse.criteria.registry import WEIGHT_CRITERIA, WeightQuestion

BINS = 100
"""Of the histogram of a weight tensor."""


@WEIGHT_CRITERIA.register("random", "uniform random scores: the control that every other criterion has to beat")
def random(question: WeightQuestion) -> dict[str, Tensor]:
    """Uniform scores in [0, 1) from the question's seed."""
    generator = torch.Generator().manual_seed(question.seed)
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in question.weights.items()}


@WEIGHT_CRITERIA.register("l1", "absolute weight, in blocks their sum; of single weights l1 and l2 are the same order")
@WEIGHT_CRITERIA.register("magnitude", "absolute weight")
def magnitude(question: WeightQuestion) -> dict[str, Tensor]:
    """Learning both Weights and Connections, 2015."""
    return {name: weight.abs() for name, weight in question.weights.items()}


@WEIGHT_CRITERIA.register("l2", "absolute weight, in blocks the Euclidean norm; of single weights the same order as l1")
def l2(question: WeightQuestion) -> dict[str, Tensor]:
    """As `l1`, with squares where weights leave together."""
    single = question.pattern.leaves_single
    return {name: weight.abs() if single else weight.double() ** 2 for name, weight in question.weights.items()}


@WEIGHT_CRITERIA.register(
    "lamp", "squared weight over the sum of those not smaller in its tensor; for allocator global"
)
def lamp(question: WeightQuestion) -> dict[str, Tensor]:
    """Layer-adaptive Sparsity for the Magnitude-based Pruning, 2021, eq. 4. The order within a tensor is that of the
    magnitude; under one threshold for all, each tensor keeps at least one weight."""
    return {name: _lamp(weight.double() ** 2) for name, weight in question.weights.items()}


def _lamp(squares: Tensor) -> Tensor:
    ascending, order = squares.flatten().sort(stable=True)
    not_smaller = ascending.flip(0).cumsum(0).flip(0)
    score = torch.where(not_smaller > 0, ascending / not_smaller, 0.0)
    return torch.empty_like(score).scatter(0, order, score).reshape(squares.shape)


@WEIGHT_CRITERIA.register(
    "entropy", "how rare a weight's value is in its tensor: minus the logarithm of its bin's share"
)
def entropy(question: WeightQuestion) -> dict[str, Tensor]:
    """What each weight adds to the entropy of its tensor's histogram (100 bins of equal width from the smallest to the
    largest weight): `-log(share of its bin)`, in nats. Common values go first; within a bin, small ones. KETI Pruner
    names an entropy of weights without defining it for single ones; this is ours."""
    return {name: _surprise(weight.double()) for name, weight in question.weights.items()}


def _surprise(weight: Tensor) -> Tensor:
    low, high = weight.min(), weight.max()
    width = (high - low).clamp(min=torch.finfo(weight.dtype).tiny)
    bins = ((weight - low) / width * BINS).long().clamp(0, BINS - 1)
    share = torch.bincount(bins.flatten(), minlength=BINS) / weight.numel()
    by_size = weight.abs() / weight.abs().max().clamp(min=torch.finfo(weight.dtype).tiny)
    # Bins differ by one weight at least, so their surprises differ by more than half of one over the count.
    return -share.log()[bins] + by_size / (2 * weight.numel())
