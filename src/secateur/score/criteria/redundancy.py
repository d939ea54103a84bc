"""Redundancy: what others on the same axis can stand in for goes first."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (what torch and safetensors say of their types is incomplete)
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from secateur.score.question import Question, by_mean
from secateur.score.reduction import rows_along
from secateur.score.registry import CRITERIA


@CRITERIA.register("fpgm", "distance to all other filters of the layer: filters near the geometric median go first")
def fpgm(question: Question) -> dict[str, torch.Tensor]:
    """Filter Pruning via Geometric Median, 2019, eq. 9: sum of Euclidean distances to the other filters; averaged over
    the producers of the group, each divided by its mean."""
    return _over_producers(question, lambda rows: torch.cdist(rows, rows).sum(-1))


@CRITERIA.register("cosine", "how soon a filter goes when, of the two most alike by direction, the smaller always goes")
def cosine(question: Question) -> dict[str, torch.Tensor]:
    """Redundancy by direction, one of a pair at a time: the score is the position in that order over the size, so that
    of two copies one goes early and the other stays. Averaged over the producers of the group."""
    return _over_producers(question, _elimination_order)


def _elimination_order(rows: torch.Tensor) -> torch.Tensor:
    flat = rows.reshape(-1, *rows.shape[-2:])
    return torch.stack([_eliminated(part) for part in flat]).reshape(rows.shape[:-1])


def _eliminated(rows: torch.Tensor) -> torch.Tensor:
    norms = rows.norm(dim=-1).cpu().numpy()
    unit = torch.nn.functional.normalize(rows, dim=-1).cpu().numpy()
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    order = np.ones(len(rows))
    best = likeness.max(axis=1)
    for step in range(len(rows) - 1):
        one = int(best.argmax())
        other = int(likeness[one].argmax())
        gone = one if norms[one] <= norms[other] else other
        order[gone] = (step + 1) / len(rows)
        affected = np.flatnonzero((likeness[:, gone] == best) & np.isfinite(best))
        likeness[gone], likeness[:, gone], best[gone] = -np.inf, -np.inf, -np.inf
        best[affected] = likeness[affected].max(axis=1)
    return torch.as_tensor(order, device=rows.device)


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
