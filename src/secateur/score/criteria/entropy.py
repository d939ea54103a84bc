"""Entropy, in the four meanings that the field has; each under its own name."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (what torch and safetensors say of their types is incomplete)
from __future__ import annotations

import torch

from secateur.score.criteria.activation import by_consumer
from secateur.score.question import Question
from secateur.score.reduction import rows_along
from secateur.score.registry import CRITERIA, needs
from secateur.spec import Axis, ScoreError

BINS = 100
"""Bins of a histogram, as in An Entropy-based Pruning Method for CNN Compression, 2017."""


@CRITERIA.register(
    "entropy-weight", "entropy of the histogram of a filter's own weights, one set of bins per layer; no data"
)
def entropy_weight(question: Question) -> dict[str, torch.Tensor]:
    """Low entropy, little information: goes first. Averaged over the producers of the group."""
    scores: dict[str, torch.Tensor] = {}
    for axis in question.axes:
        members = [
            histogram_entropy(rows_along(question.tensors[name].double(), spec.dims, axis, question.structure))
            for name, spec in question.producers(axis)
        ]
        scores[axis.name] = torch.stack([member.expand(_shape(question, axis)) for member in members]).mean(0)
    return scores


@CRITERIA.register("entropy-activation", "entropy of the histogram of a channel's mean activation over samples (2017)")
@needs("pooled")
def entropy_activation(question: Question) -> dict[str, torch.Tensor]:
    """An Entropy-based Pruning Method for CNN Compression, 2017, eq. 3: pooled over space, 100 bins over the range of
    the layer; averaged over the consumers that read the axis."""
    pooled = by_consumer(question.statistics.rows("pooled"))
    return {
        axis.name: torch.stack([histogram_entropy(rows.double().T) for rows in pooled[axis.name]])
        .mean(0)
        .reshape(_shape(question, axis))
        for axis in question.axes
        if axis.name in pooled
    }


@CRITERIA.register("entropy-class", "information that a channel's mean activation has on the class; needs labels")
@needs("pooled")
def entropy_class(question: Question) -> dict[str, torch.Tensor]:
    """Mutual information I(class; binned pooled activation) = H(class) - H(class | bin), 16 bins of equal count: a
    channel after which the class is as uncertain as before goes first. Averaged over consumers."""
    rows = question.statistics.rows("labels")
    if not rows:
        raise ScoreError("criterion entropy-class needs labels; give batches of (inputs, labels)")
    labels = next(iter(rows.values())).reshape(-1).long()
    pooled = by_consumer(question.statistics.rows("pooled"))
    return {
        axis.name: torch.stack([_class_information(values.double(), labels) for values in pooled[axis.name]])
        .mean(0)
        .reshape(_shape(question, axis))
        for axis in question.axes
        if axis.name in pooled and all(len(values) == len(labels) for values in pooled[axis.name])
    }


@CRITERIA.register("entropy-spectral", "spectral entropy of the layer (AFIE) times the l1 norm within it; no data")
def entropy_spectral(question: Question) -> dict[str, torch.Tensor]:
    """Entropy Induced Pruning Framework for Convolutional Neural Networks, 2024: AFIE scores a layer, filters inside it
    go by norm. Here each index has the l1 score of its layer (mean one) times the layer's AFIE over the mean AFIE, for
    the `global` allocator; `allocate.ratios.spectral_weights` gives the paper's ratios to the `adaptive` one."""
    levels = spectral_entropies(question)
    mean = sum(levels.values()) / max(1, len(levels))
    norms = question.reduce(torch.abs)
    return {axis: norms[axis] * (levels[axis] / mean if mean else 1.0) for axis in levels if axis in norms}


def spectral_entropies(question: Question) -> dict[str, float]:
    """AFIE per axis: entropy of the softmax of the min-max scaled singular values of the (space-averaged) weight, over
    the number of filters; the mean over producers."""
    found: dict[str, float] = {}
    for axis in question.axes:
        members = []
        for name, _ in question.producers(axis):
            weight = question.tensors[name].double()
            matrix = weight.flatten(2).mean(2) if weight.dim() > 2 else weight
            values = torch.linalg.svdvals(matrix)
            spread = values.max() - values.min()
            scaled = (values - values.min()) / spread if spread > 0 else torch.zeros_like(values)
            share = scaled.softmax(0)
            members.append(float(-(share * share.log()).sum()) / weight.shape[0])
        found[axis.name] = sum(members) / len(members)
    return found


def histogram_entropy(rows: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of the histogram of each row (last dimension), in bins that all rows share: `(..., size)`."""
    low, high = rows.min(), rows.max()
    width = (high - low).clamp(min=torch.finfo(rows.dtype).tiny)
    bins = ((rows - low) / width * BINS).long().clamp(0, BINS - 1)
    counts = torch.zeros(*rows.shape[:-1], BINS, dtype=torch.float64).scatter_add_(
        -1, bins, torch.ones_like(rows, dtype=torch.float64)
    )
    share = counts / counts.sum(-1, keepdim=True)
    return -torch.special.xlogy(share, share).sum(-1)


def _class_information(values: torch.Tensor, labels: torch.Tensor, bins: int = 16) -> torch.Tensor:
    count, width = values.shape
    classes = int(labels.max()) + 1
    ranks = torch.argsort(torch.argsort(values, dim=0, stable=True), dim=0, stable=True)
    chosen = (ranks * min(bins, count) // count).clamp(max=bins - 1)
    joint = torch.zeros(width, bins * classes, dtype=torch.float64)
    joint.scatter_add_(1, (chosen * classes + labels[:, None]).T, torch.ones(width, count, dtype=torch.float64))
    joint = joint.reshape(width, bins, classes) / count
    marginal = joint.sum(2, keepdim=True) * joint.sum(1, keepdim=True)
    return torch.special.xlogy(joint, joint / marginal.clamp(min=1e-300)).sum((1, 2)).clamp(min=0)


def _shape(question: Question, axis: Axis) -> tuple[int, ...]:
    return (axis.size,) if axis.within is None else (question.structure.sizes[axis.within], axis.size)
