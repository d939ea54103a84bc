"""Gradients and curvature: what the loss says."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from secateur.score.question import Question
from secateur.score.registry import CRITERIA, needs


@CRITERIA.register("taylor", "squared first-order change of the loss when the index goes, averaged over samples")
@needs("taylor")
def taylor(question: Question) -> dict[str, torch.Tensor]:
    """Importance Estimation for Neural Network Pruning, 2019, eq. 8, joint: gradient times weight is summed over all
    columns that read the index before it is squared. By the chain rule that is the derivative along removing the
    index."""
    count = question.statistics.count("gradients")
    return {axis: total / count for axis, total in question.statistics.of("taylor").items()}


@CRITERIA.register(
    "taylor-nni", "sum of squared (gradient times weight) of the elements, per batch, as NNI's TaylorFOWeight"
)
@needs("batch-taylor")
def taylor_nni(question: Question) -> dict[str, torch.Tensor]:
    """NNI's TaylorFOWeight: defined on the gradient of a batch's mean loss, so it depends on the batch size."""
    found = question.statistics.of("batch-taylor")
    return question.reduce(
        _same,
        weights=lambda name: _or_zero(found, name, question) / question.statistics.count("batches"),
        normalise=_as_is,
    )


@CRITERIA.register(
    "fisher", "half the squared weight times the mean squared gradient of a sample (OBD with the Fisher diagonal)"
)
@needs("fisher")
def fisher(question: Question) -> dict[str, torch.Tensor]:
    """Optimal Brain Damage, 1989, eq. 5, with the diagonal of the empirical Fisher matrix for the Hessian's; summed
    over the members of the group."""
    found, count = question.statistics.of("fisher"), question.statistics.count("gradients")
    return question.reduce(
        _same,
        weights=lambda name: 0.5 * question.tensors[name].double().cpu() ** 2 * _or_zero(found, name, question) / count,
        normalise=_as_is,
    )


@CRITERIA.register("snip", "absolute gradient times weight of the mean loss over the data, summed over the group")
@needs("mean-gradient")
def snip(question: Question) -> dict[str, torch.Tensor]:
    """SNIP, 2019, eq. 5, without the normalisation by the total, which changes no order."""
    found, count = question.statistics.of("mean-gradient"), question.statistics.count("gradients")
    return question.reduce(
        torch.abs,
        weights=lambda name: question.tensors[name].double().cpu() * _or_zero(found, name, question) / count,
        normalise=_as_is,
    )


def _same(values: torch.Tensor) -> torch.Tensor:
    return values


def _as_is(member: torch.Tensor, _: int) -> torch.Tensor:
    return member


def _or_zero(found: Mapping[str, torch.Tensor], name: str, question: Question) -> torch.Tensor:
    """The sum for a parameter; zero for one that the loss does not depend on."""
    if name in found:
        return found[name]
    return torch.zeros_like(question.tensors[name], dtype=torch.float64, device="cpu")
