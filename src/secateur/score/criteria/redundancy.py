"""Redundancy: what others on the same axis can stand in for goes first."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (what torch and safetensors say of their types is incomplete)
from __future__ import annotations

from collections.abc import Callable

import torch

from secateur.score.question import Question, by_mean
from secateur.score.reduction import rows_along
from secateur.score.registry import CRITERIA


@CRITERIA.register("fpgm", "distance to all other filters of the layer: filters near the geometric median go first")
def fpgm(question: Question) -> dict[str, torch.Tensor]:
    """Filter Pruning via Geometric Median, 2019, eq. 9: sum of Euclidean distances to the other filters; averaged over
    the producers of the group, each divided by its mean."""
    return _over_producers(question, lambda rows: torch.cdist(rows, rows).sum(-1))


@CRITERIA.register(
    "cosine", "one minus the largest |cosine| with another filter of the layer: copies and negatives go first"
)
def cosine(question: Question) -> dict[str, torch.Tensor]:
    """Redundancy by direction; a filter of zeros counts as a copy of any."""
    return _over_producers(question, _alone)


def _alone(rows: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(rows, dim=-1)
    likeness = (unit @ unit.mT).abs()
    likeness.diagonal(dim1=-2, dim2=-1).zero_()
    likeness = torch.where(rows.norm(dim=-1, keepdim=True) > 0, likeness, torch.ones_like(likeness))
    return (1 - likeness.amax(-1)).clamp(min=0)


def _over_producers(question: Question, kernel: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    scores: dict[str, torch.Tensor] = {}
    for axis in question.axes:
        if axis.size < 2:
            continue
        members = [
            by_mean(kernel(rows_along(question.tensors[name].double(), spec.dims, axis, question.structure)))
            for name, spec in question.producers(axis)
        ]
        shape = (axis.size,) if axis.within is None else (question.structure.sizes[axis.within], axis.size)
        scores[axis.name] = torch.stack([member.expand(shape) for member in members]).mean(0)
    return scores
