"""Prune layer by layer, each knowing what it reads in the network that is pruned up to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.score.gradients import Batch
from secateur.sparse.pattern import Pattern
from secateur.sparse.paused import PausedForward, Pausing, in_order
from secateur.sparse.second_order.layers import Layer
from secateur.sparse.second_order.moments import Moments
from secateur.sparse.second_order.obs import damped, exact_obs, refit
from secateur.sparse.second_order.runs import Runs, by_place, keep_in_runs, runs_of
from secateur.sparse.second_order.sweep import sweep
from secateur.sparse.select import keep_highest, keep_in_rows

DAMPING = 1e-2
"""What SparseGPT and OBC add to the diagonal of the Hessian, as a share of its mean."""


@dataclass(frozen=True)
class Matrix:
    """The rows of a weight that read the same columns, as a method sees them."""

    values_RC: Tensor
    hessian_CC: Tensor
    """E[x x^T] of what they read."""
    remove: int
    """How many weights go; N:M says it itself."""
    runs: Runs | None
    """Of which so many stay, for N:M."""


Method = Callable[[Matrix], tuple[Tensor, Tensor]]
"""Mask and new values, `(R, C)`."""


def sparsegpt(given: Matrix) -> tuple[Tensor, Tensor]:
    """SparseGPT, 2023: see `sweep`."""
    hessian = damped(given.hessian_CC[None], DAMPING)[0]
    return sweep(hessian, given.values_RC, given.remove, runs=given.runs)


def obc(given: Matrix) -> tuple[Tensor, Tensor]:
    """Optimal Brain Compression, 2022: see `exact_obs`."""
    hessian = damped(given.hessian_CC[None], DAMPING)
    kept = exact_obs(hessian[0], given.values_RC, given.remove, runs=given.runs)
    return kept, refit(hessian, given.values_RC, kept)


def wanda(given: Matrix) -> tuple[Tensor, Tensor]:
    """Wanda, 2023: |w| times the norm of its input, compared within each output; the others keep their values."""
    scores = given.values_RC.abs() * given.hessian_CC.diagonal().sqrt()
    kept = keep_in_rows(scores, given.remove) if given.runs is None else keep_in_runs(scores, given.runs)
    return kept, given.values_RC * kept


def magnitude(given: Matrix) -> tuple[Tensor, Tensor]:
    """The smallest of the layer go; the others keep their values."""
    scores = given.values_RC.abs()
    kept = keep_highest([scores], given.remove)[0] if given.runs is None else keep_in_runs(scores, given.runs)
    return kept, given.values_RC * kept


LAYERWISE: Mapping[str, Method] = {"sparsegpt": sparsegpt, "obc": obc, "wanda": wanda, "magnitude": magnitude}


def prune_layerwise(
    model: nn.Module,
    layers: Mapping[str, Layer],
    data: Sequence[Batch],
    shares: Mapping[str, float],
    pattern: Pattern,
    method: Method,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Change the layers of the model in place, in the order in which a forward calls them; returns which of their
    weights are kept, `(R, D)`.

    A layer that is called several times is pruned at the first call, knowing what it reads there; one that only some
    batches call knows these. shares: what goes of each weight.
    """
    forwards = [PausedForward(model, inputs) for inputs, _ in data]
    kept: dict[str, Tensor] = {}
    try:
        with Pausing({name: layer.module for name, layer in layers.items()}):
            for name in in_order(forwards):
                hessian = _hessian(layers[name], [forward for forward in forwards if forward.name == name], generator)
                kept[name], values = _pruned(layers[name], hessian, shares[name], pattern, method)
                layers[name].write_(model, values)
    finally:
        for forward in forwards:
            forward.stop()
    return kept


def _hessian(layer: Layer, forwards: Sequence[PausedForward], generator: torch.Generator) -> Tensor:
    moments = Moments(layer)
    for forward in forwards:
        assert forward.given is not None
        moments.add(forward.given, generator)
    return moments.mean_GDD[:, :-1, :-1]


def _pruned(layer: Layer, hessian_GCC: Tensor, share: float, pattern: Pattern, method: Method) -> tuple[Tensor, Tensor]:
    """Mask and values, `(R, D)`, group by group of a convolution; each loses the same share."""
    layout, runs = layer.layout, runs_of(pattern, layer.layout)
    order = torch.arange(layout.columns) if runs is None else by_place(layout)
    values = layer.values()
    kept = torch.ones_like(values, dtype=torch.bool)
    rows, total = len(values) // layer.groups, round(share * layer.weight.numel())
    for number, hessian in enumerate(hessian_GCC.to(torch.float32)):
        own = slice(number * rows, (number + 1) * rows)
        remove = total * (number + 1) // layer.groups - total * number // layer.groups
        found = method(Matrix(values[own][:, order], hessian[order][:, order], remove, runs))
        kept[own, order], values[own, order] = found[0], found[1]
    return kept, values
