"""Methods that choose which weights go and give the others new values in one go, as `prune` calls them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from secateur.sparse.allocation import global_
from secateur.sparse.layout import Layout
from secateur.sparse.making import Request, shares_of
from secateur.sparse.masks import prunable_weights
from secateur.sparse.reconstruction import Reconstructed, reconstruct
from secateur.spec import BudgetError, ScoreError

UPDATING: Mapping[str, str] = {
    "second-order": "what the outputs lose by curvature, in rounds, with new values for what stays; needs data",
    "sparsegpt": "layer by layer, one sweep over the columns, with new values for what stays; needs data (SparseGPT)",
    "obc": "layer by layer, one weight at a time, with new values for what stays; needs data (ExactOBS)",
}
"""Name -> one honest line on it."""


def pruned_and_updated(
    model: nn.Module,
    data: Iterable[Any] | None,
    weights: Mapping[str, Tensor],
    places: Mapping[str, Layout],
    request: Request,
    *,
    method: str,
    seed: int,
) -> Reconstructed:
    """Masks and new values by one of `UPDATING`, with the shares that the allocator gives each of these weights.

    `second-order` with allocator `global` decides itself how much each weight tensor loses. Raises ScoreError without
    data, BudgetError for an allocator that would need scores.
    """
    if data is None:
        raise ScoreError(f"{method} looks at data; give data= (--data on the command line)")
    return reconstruct(
        model, data, sparsity=_shares(model, weights, places, request, method), pattern=request.pattern, method=method,
        seed=seed,
    )  # fmt: skip


def _shares(
    model: nn.Module, weights: Mapping[str, Tensor], places: Mapping[str, Layout], request: Request, method: str
) -> float | dict[str, float]:
    group = request.pattern.keep_per_group
    if group is not None:
        return dict.fromkeys(weights, 1 - group[0] / group[1])
    if request.allocator is not global_:
        return shares_of(weights, places, request)
    if method != "second-order" or set(weights) != set(prunable_weights(model)):
        raise BudgetError(
            f"allocator global with {method}: only second-order weighs layers against each other, and only all of them "
            "together; choose another allocator, such as uniform or erk, or drop ignore and targets"
        )
    return request.sparsity or 0.0
