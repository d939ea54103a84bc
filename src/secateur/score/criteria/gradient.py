"""Gradients and curvature: what the loss says."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from secateur.score.question import Question
from secateur.score.registry import CRITERIA, needs

TIE = 1e-9
"""By how much of it a cost is above the one before it, so that the order stays."""


@CRITERIA.register("taylor", "squared first-order change of the loss when the index goes, averaged over samples")
@needs("taylor")
def taylor(question: Question) -> dict[str, torch.Tensor]:
    """Importance Estimation for Neural Network Pruning, 2019, eq. 8, joint: gradient times weight is summed over all
    columns that read the index before it is squared. By the chain rule that is the derivative along removing the
    index."""
    count = question.statistics.count("gradients")
    return {axis: total / count for axis, total in question.statistics.of("taylor").items()}


@CRITERIA.register("fisher-masks", "what the loss gains when the index goes after those that it can miss more easily")
@needs("mask-fisher")
def fisher_masks(question: Question) -> dict[str, torch.Tensor]:
    """A Fast Post-Training Pruning Framework for Transformers, 2022, eq. 8 and 10: half the quadratic form of the
    empirical Fisher matrix of masks, block-diagonal over axes. Instead of rearranging what the diagonal has chosen,
    indices go one by one, each time the one that costs least beside those that are gone. A cost is at least that of
    the index before."""
    count = question.statistics.count("gradients")
    scores: dict[str, torch.Tensor] = {}
    for name, total in question.statistics.of("mask-fisher").items():
        axis, costs = question.structure.axis[name], _costs_in_turn(total / count)
        scores[name] = costs if axis.within is None else costs.reshape(-1, axis.size)
    return scores


def _costs_in_turn(fisher_KK: torch.Tensor) -> torch.Tensor:
    """What each index costs when it goes, `(K,)`; never falling in the order in which they go."""
    next_K = fisher_KK.diagonal() / 2
    costs_K = torch.empty_like(next_K)
    left = torch.ones_like(next_K, dtype=torch.bool)
    most = next_K.new_zeros(())
    for _ in range(len(next_K)):
        going = int(next_K.where(left, torch.inf).argmin())
        most = torch.maximum(most * (1 + TIE), next_K[going])
        costs_K[going], left[going] = most, False
        next_K = next_K + fisher_KK[going]
    return costs_K


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
