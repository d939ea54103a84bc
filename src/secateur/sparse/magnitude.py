"""Magnitude pruning of single weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from secateur.sparse.kernel import keep_largest
from secateur.sparse.masks import prunable_weights
from secateur.spec import Budget, ScoreError
from secateur.spec.errors import SelectorError


def magnitude_masks(
    model: nn.Module, *, sparsity: float, scope: Literal["global", "layer"] = "global"
) -> dict[str, Tensor]:
    """Masks that remove the weights of smallest magnitude (Han et al. 2015); the model is not changed.

    sparsity: share of the prunable weights that is removed, in [0, 1): exactly `round(sparsity * count)`, of all
    weights together (`global`) or of each parameter (`layer`). Ties keep the weight that comes first.
    Raises BudgetError for another share, ScoreError for weights that are not finite.
    """
    Budget("sparsity", sparsity)
    if scope not in ("global", "layer"):
        raise SelectorError(f"unknown scope {scope!r} of magnitude masks; expected global or layer")
    scores = {name: _magnitude(name, weight) for name, weight in prunable_weights(model).items()}
    groups: Iterable[list[str]] = [list(scores)] if scope == "global" else [[name] for name in scores]
    masks: dict[str, Tensor] = {}
    for names in groups:
        count = sum(scores[name].numel() for name in names)
        kept = keep_largest([scores[name] for name in names], round(sparsity * count))
        masks |= dict(zip(names, kept, strict=True))
    return masks


def _magnitude(name: str, weight: nn.Parameter) -> Tensor:
    if not bool(weight.isfinite().all()):
        raise ScoreError(
            f"parameter {name!r} holds values that are not finite; train to finite weights, or load others"
        )
    return weight.detach().abs()
