"""Gradients and curvature of the loss, from gradients sample by sample."""

from __future__ import annotations

from torch import Tensor

from secateur.score.registry import needs
from secateur.sparse.criteria.registry import WEIGHT_CRITERIA, WeightQuestion


@WEIGHT_CRITERIA.register("taylor", "squared gradient times weight, averaged over samples; the same order as fisher")
@needs("fisher")
def taylor(question: WeightQuestion) -> dict[str, Tensor]:
    """Importance Estimation for Neural Network Pruning, 2019, eq. 8, of single weights: the mean over samples of
    (g w)^2. Of one weight alone that is twice the score of `fisher`."""
    return {name: question.measured("fisher", name) * _square(weight) for name, weight in question.weights.items()}


@WEIGHT_CRITERIA.register("obd", "as fisher, by the name of the paper (Optimal Brain Damage)")
@WEIGHT_CRITERIA.register("fisher", "half the squared weight times the mean squared gradient of a sample")
@needs("fisher")
def fisher(question: WeightQuestion) -> dict[str, Tensor]:
    """Optimal Brain Damage, 1989, eq. 5, with the diagonal of the empirical Fisher matrix for the Hessian's."""
    return {name: 0.5 * score for name, score in taylor(question).items()}


@WEIGHT_CRITERIA.register("snip", "absolute gradient times weight of the mean loss over the data")
@needs("mean-gradient")
def snip(question: WeightQuestion) -> dict[str, Tensor]:
    """SNIP, 2019, eq. 5, without the normalisation by the total, which changes no order."""
    return {
        name: (question.measured("mean-gradient", name) * weight.double().cpu()).abs()
        for name, weight in question.weights.items()
    }


def _square(weight: Tensor) -> Tensor:
    return weight.double().cpu() ** 2
