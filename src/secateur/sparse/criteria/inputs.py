"""What the inputs of each weight say."""

from __future__ import annotations

from torch import Tensor

from secateur.score.registry import needs
from secateur.sparse.criteria.registry import WEIGHT_CRITERIA, WeightQuestion, compares_in_rows


@WEIGHT_CRITERIA.register("wanda", "absolute weight times the norm of its inputs, compared within each output")
@compares_in_rows
@needs("inputs")
def wanda(question: WeightQuestion) -> dict[str, Tensor]:
    """A Simple and Effective Pruning Approach for Large Language Models, 2023: |W_ij| ||X_j||_2. Of convolutions, X_j
    are the inputs under one place of the kernel. Weights that no product reads (lookup tables) get no score. The
    inputs are those of the network as it is; the paper's code goes block by block and reads what the pruned blocks
    before give, which `reconstruct(method="wanda")` does layer by layer."""
    measured = question.statistics.of("inputs") if question.statistics is not None else {}
    return {
        name: weight.double().cpu().abs() * measured[name].sqrt()
        for name, weight in question.weights.items()
        if name in measured
    }
