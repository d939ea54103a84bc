"""Criteria that need no data."""

from __future__ import annotations

import torch

from secateur.score.question import Question, sum_along
from secateur.score.registry import CRITERIA


@CRITERIA.register("random", "uniform random scores: the control that every other criterion has to beat")
def random(question: Question) -> dict[str, torch.Tensor]:
    """Uniform scores in [0, 1) from the question's seed."""
    generator = torch.Generator().manual_seed(question.seed)
    scores: dict[str, torch.Tensor] = {}
    for axis in question.axes:
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
    of the group and compared globally as it is. Axes without a BatchNorm get no score and stay whole."""
    scores: dict[str, torch.Tensor] = {}
    for axis in question.axes:
        members = [
            sum_along(question.tensors[name].abs(), spec, axis, question.structure)
            for name, spec in question.norm_scales(axis)
        ]
        if members:
            scores[axis.name] = torch.stack(members).mean(0)
    return scores
