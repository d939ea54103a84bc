"""Magnitudes: norms of weights, as they are or with their BatchNorm, and BatchNorm scales; and the random control."""

from __future__ import annotations

from dataclasses import replace

import torch

from secateur.score.question import Question, sum_along
from secateur.score.registry import CRITERIA


@CRITERIA.register("random", "uniform random scores: the control that every other criterion has to beat")
def random(question: Question) -> dict[str, torch.Tensor]:
    """Uniform scores in [0, 1) from the question's seed."""
    generator = torch.Generator().manual_seed(question.seed)
    scores: dict[str, torch.Tensor] = {}
    for axis in (*question.axes, *question.blocks):
        shape = (axis.size,) if axis.within is None else (question.structure.sizes[axis.within], axis.size)
        scores[axis.name] = torch.rand(shape, generator=generator, dtype=torch.float64)
    return scores


@CRITERIA.register("l1", "sum of absolute weights of the group, each member divided by its mean (Li et al. 2016)")
def l1(question: Question) -> dict[str, torch.Tensor]:
    """Pruning Filters for Efficient ConvNets, 2016; extended from the filter to its whole group, normalised per
    member."""
    return question.reduce(torch.abs)


@CRITERIA.register("l2", "Euclidean norm of the weights of the group, each member divided by its mean")
def l2(question: Question) -> dict[str, torch.Tensor]:
    """As `l1`, with the square root of the sum of squares of each member."""
    return question.reduce(torch.square, power=0.5)


@CRITERIA.register("bn-scale", "absolute BatchNorm scale (gamma); meant for networks trained with an L1 penalty on it")
def bn_scale(question: Question) -> dict[str, torch.Tensor]:
    """Learning Efficient Convolutional Networks through Network Slimming, 2017: |gamma|, averaged over the BatchNorms
    of the group and compared globally as it is; of a block, the mean over the BatchNorms inside. Axes without a
    BatchNorm get no score and stay whole."""
    scores: dict[str, torch.Tensor] = {}
    for axis in question.axes:
        members = [
            sum_along(question.tensors[name].abs(), spec.dims, axis, question.structure)
            for name, spec in question.norm_scales(axis)
        ]
        if members:
            scores[axis.name] = torch.stack(members).mean(0)
    for block in question.blocks:
        inside = [question.tensors[name].abs().mean() for name, _ in question.scales(question.inside(block))]
        if inside:
            scores[block.name] = torch.stack(inside).mean().reshape(1)
    return scores


@CRITERIA.register("l1-fan-in", "mean absolute weight of the group, members not divided by their mean")
def l1_fan_in(question: Question) -> dict[str, torch.Tensor]:
    """As `l1`, each member divided by its number of elements per index in place of its mean over the axis."""
    return question.reduce(torch.abs, normalise=lambda member, count: member / count)


@CRITERIA.register("l2-fan-in", "root mean square of the weights of the group, none divided by its mean")
def l2_fan_in(question: Question) -> dict[str, torch.Tensor]:
    """As `l2`, each member divided by the square root of its number of elements per index."""
    return question.reduce(torch.square, power=0.5, normalise=lambda member, count: member / count**0.5)


@CRITERIA.register("l1-folded", "as l1, on weights with the BatchNorm that follows multiplied in")
def l1_folded(question: Question) -> dict[str, torch.Tensor]:
    """|gamma * W / sqrt(var + eps)|, so that the scale that a BatchNorm takes away does not count."""
    return question.reduce(torch.abs, weights=question.folded)


@CRITERIA.register("l2-folded", "as l2, on weights with the BatchNorm that follows multiplied in")
def l2_folded(question: Question) -> dict[str, torch.Tensor]:
    """As `l1-folded`, Euclidean."""
    return question.reduce(torch.square, power=0.5, weights=question.folded)


@CRITERIA.register(
    "lamp", "squared l2 score over the sum of those not smaller on the axis: adapts to each layer by itself"
)
def lamp(question: Question) -> dict[str, torch.Tensor]:
    """Layer-adaptive Sparsity for the Magnitude-based Pruning, 2021, eq. 4, on groups in place of single weights.
    Blocks get no score: they stand beside no others on an axis."""
    return {axis: _lamp(values**2) for axis, values in l2(replace(question, blocks=())).items()}


def _lamp(squares: torch.Tensor) -> torch.Tensor:
    order = squares.argsort(dim=-1)
    ascending = squares.gather(-1, order)
    not_smaller = ascending.flip(-1).cumsum(-1).flip(-1)
    return torch.zeros_like(squares).scatter(-1, order, ascending / not_smaller)
