"""One step of all weights that are left towards the reference network, in closed form.

The outputs are linearised in the weights, and the least squares problem of the sketched directions is solved with a
ridge: as in Fast as CHITA (2023), with directions of the divergence from the reference in place of gradients of the
loss, so that no label is read, and with a ridge that is scaled by how much each weight matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from secateur.sparse.second_order.sketch import Sketch

RIDGE = 1e-3
"""Share of the trace of the Gauss-Newton matrix, in scaled weights, that is added to its diagonal."""
BYTES = 2 << 30
"""What the directions may take; samples that do not fit are left out."""


def enough_directions(samples: int, weights: int, weights_per_direction: int) -> bool:
    """Whether so many samples, one direction each, can say how to change so many weights, and fit into memory."""
    return min(samples, BYTES // (4 * max(1, weights))) * weights_per_direction >= weights


def gauss_newton_step(
    sketches: Iterable[Sketch], kept: Mapping[str, Tensor], importance: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """What to add to the weights, by name, `(R, D)` and zero where they are not kept; None where the outputs depend
    on none of them.

    kept: True at the weights that may change. importance: how much each weight matters, positive, in any unit. In
    weights that are scaled by its square root, `mean (missing - J s)^2 + ridge |s|^2` is minimised, by way of the
    samples, which are fewer than the weights.
    """
    scale = torch.cat([importance[name][mask] for name, mask in kept.items()]).float()
    scale = scale.clamp(min=float(scale.mean()) * 1e-3).rsqrt()
    directions_NW, missing_N = _stacked(sketches, kept, most=BYTES // (4 * len(scale)))
    directions_NW *= scale
    gram_NN = (directions_NW @ directions_NW.T).double()
    ridge = RIDGE * gram_NN.trace()
    if ridge == 0:
        return None
    weights_N = torch.linalg.solve(gram_NN + torch.diag_embed(ridge.expand(len(gram_NN))), missing_N.double())
    change = scale * (directions_NW.T @ weights_N.float())
    parts = change.split([int(mask.sum()) for mask in kept.values()])
    return {
        name: torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, part)
        for (name, mask), part in zip(kept.items(), parts, strict=True)
    }


def _stacked(sketches: Iterable[Sketch], kept: Mapping[str, Tensor], most: int) -> tuple[Tensor, Tensor]:
    """Directions (N, kept weights) and what is missing along them (N,)."""
    rows: list[Tensor] = []
    missing: list[Tensor] = []
    for sketch in sketches:
        rows.append(torch.cat([_part(sketch, name, kept[name]) for name in kept], dim=1))
        missing.append(sketch.missing)
        if sum(map(len, missing)) >= most:
            break
    return torch.cat(rows), torch.cat(missing)


def _part(sketch: Sketch, name: str, kept: Tensor) -> Tensor:
    found = sketch.gradients.get(name)
    return found[:, kept] if found is not None else sketch.missing.new_zeros(len(sketch.missing), int(kept.sum()))
