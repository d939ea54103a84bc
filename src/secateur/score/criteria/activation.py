"""Activations, as the weights that read an axis see them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from secateur.score.question import Question, by_mean
from secateur.score.reduction import columns, sum_along
from secateur.score.registry import CRITERIA, needs
from secateur.spec import Axis


def by_consumer(found: Mapping[str, torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """Axis -> one tensor per weight that reads it, from keys `axis/weight`."""
    grouped: dict[str, list[torch.Tensor]] = {}
    for key, value in found.items():
        grouped.setdefault(key.split("/")[0], []).append(value)
    return grouped


@CRITERIA.register("apoz", "share of activations that are not zero (one minus the average percentage of zeros)")
@needs("moments")
def apoz(question: Question) -> dict[str, torch.Tensor]:
    """Network Trimming, 2016: APoZ, turned round so that the lowest goes first; the mean over consumers."""
    zeros, counts = by_consumer(question.statistics.of("zero")), by_consumer(question.statistics.of("count"))
    return {
        axis: torch.stack([1 - zero / count for zero, count in zip(zeros[axis], counts[axis], strict=True)]).mean(0)
        for axis in zeros
    }


@CRITERIA.register("mean-activation", "mean activation, divided by its mean over the axis")
@needs("moments")
def mean_activation(question: Question) -> dict[str, torch.Tensor]:
    """Pruning Convolutional Neural Networks for Resource Efficient Inference, 2016, section 2.2: the mean of the
    absolute value of the sum over count; the mean over consumers."""
    sums, counts = by_consumer(question.statistics.of("sum")), by_consumer(question.statistics.of("count"))
    return {
        axis: torch.stack(
            [by_mean((total / count).abs()) for total, count in zip(sums[axis], counts[axis], strict=True)]
        ).mean(0)
        for axis in sums
    }


@CRITERIA.register("wifv", "variance of the activation times the squared norm of the weights that read it (FLAP, 2024)")
@needs("moments")
def wifv(question: Question) -> dict[str, torch.Tensor]:
    """FLAP, 2024, eq. 5: what is lost when an input is replaced by its mean, summed over the weights that read it and
    divided by its mean over the axis, so that axes can be compared."""
    scores: dict[str, torch.Tensor] = {}
    for axis in question.axes:
        parts = [_fluctuation(question, axis, name) for name, _ in question.consumers(axis)]
        known = [part for part in parts if part is not None]
        if known:
            scores[axis.name] = by_mean(torch.stack(known).sum(0))
    return scores


def _fluctuation(question: Question, axis: Axis, weight: str) -> torch.Tensor | None:
    statistics, key = question.statistics, f"{axis.name}/{weight}"
    if key not in statistics.of("count"):
        return None
    count, total, square = (statistics.of(kind)[key] for kind in ("count", "sum", "square"))
    variance = (square / count - (total / count) ** 2).clamp(min=0)
    dims = question.structure.tensors[weight].dims
    only = columns(dims, question.structure.reads[weight], axis)
    squares = question.tensors[weight].double() ** 2
    return variance * sum_along(squares, only, axis, question.structure).cpu()
