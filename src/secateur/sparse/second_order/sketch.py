"""How the outputs of a network depend on its weights, as random directions of samples.

With `q` a distribution over classes, `L L^T = diag(q) - q q^T` and `z` standard normal, `u = L z`: the gradients of
`u . logits` are samples whose second moment is the Gauss-Newton matrix of the Kullback-Leibler divergence, and no label
is needed. As q the mean of the distributions of reference and network is taken: that of either alone is blind where it
is sure and the other is not. Samples are drawn in proportion to `trace(diag(q) - q q^T)`, and each draw weighs as much
less: outputs that are certain say next to nothing about any weight, and cost as much to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from secateur.score.gradients import CHUNK, Batch, chunks, class_scores, picked
from secateur.sparse.second_order.layers import Layer, given
from secateur.structure.capture import Inputs, attached, call_model

FLOOR = 0.05
"""What is added to the chance of each sample, as a share of the mean."""

SKETCHES = 16
"""Sketches (of 32 samples) that say how much each row counts."""


@dataclass(frozen=True)
class Sketch:
    """Of some samples as drawn: how `u . logits` of each depends on each weight, and how far it is off."""

    gradients: Mapping[str, Tensor]
    """By weight, `(N, R, D)`; zero where the layer was not called."""
    missing: Tensor
    """What `u . logits` lacks, to first order in the divergence of the network from the reference, `(N,)`."""


def sketches(
    model: nn.Module,
    reference: nn.Module,
    layers: Mapping[str, Layer],
    data: Iterable[Batch],
    generator: torch.Generator,
) -> Iterator[Sketch]:
    """A sketch of a few draws after the other, from each batch as many as it has samples; means over draws are those
    over samples, in expectation.

    model, reference: in eval mode; `layers` are those of `model`, and no parameter of it needs a gradient. Raises
    ScoreError for a model that returns no class scores.
    """
    calls: list[tuple[str, Tensor, Tensor]] = []

    def watching(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            made = output if output.requires_grad else output.detach().requires_grad_()
            calls.append((name, given(args, kwargs).detach(), made))
            return made.clone()  # what reads it may write into it

        return hook

    with attached(layer.module.register_forward_hook(watching(n), with_kwargs=True) for n, layer in layers.items()):
        for batch in data:
            wanted, found = _all_shares(reference, batch), _all_shares(model, batch)
            chosen, scale = _drawn((found + wanted) / 2, generator)
            for rows in chosen.split(CHUNK):
                calls.clear()
                with torch.enable_grad():
                    logits = class_scores(call_model(model, picked(batch[0], rows))).float()
                direction, missing = _direction(found[rows], wanted[rows], generator)
                own = scale[rows]
                with torch.enable_grad():
                    total = own @ (direction * logits).flatten(1).sum(1)
                    made = torch.autograd.grad(total, [output for _, _, output in calls])
                yield Sketch(_gradients(layers, calls, made), missing * own)


def divergence(model: nn.Module, reference: nn.Module, data: Iterable[Batch]) -> float:
    """Mean Kullback-Leibler divergence of the model's distributions from the reference's, both in eval mode."""
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in data:
            for inputs, _ in chunks(*batch):
                wanted, found = _log_shares(reference, inputs), _log_shares(model, inputs)
                total += float(torch.nn.functional.kl_div(found, wanted, reduction="sum", log_target=True))
                count += wanted[..., 0].numel()
    return total / count


def _log_shares(model: nn.Module, inputs: Inputs) -> Tensor:
    return class_scores(call_model(model, inputs)).float().log_softmax(-1)


def _all_shares(model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return torch.cat([_log_shares(model, inputs) for inputs, _ in chunks(*batch)]).exp()


def _drawn(q: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """As many samples as there are, at equal steps through their summed chances, and what to multiply the directions
    of each with, so that the mean of their squares is that over all samples."""
    spread = (1 - q.square().sum(-1)).reshape(len(q), -1).sum(1)
    chance = spread + FLOOR * spread.mean() + torch.finfo(q.dtype).tiny
    chance = chance / chance.mean()
    at = (torch.arange(len(q)) + torch.rand(1, generator=generator)).to(chance)
    chosen = torch.searchsorted(chance.cumsum(0), at).clamp(max=len(q) - 1)
    return chosen, chance.rsqrt()


def _direction(found: Tensor, wanted: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """u, of the shape of the logits, and `z . (wanted - found) / sqrt(q)` per sample, whose product with u is
    `wanted - found` in expectation: minus the gradient of the divergence."""
    q = (found + wanted) / 2
    z = torch.randn(q.shape, generator=generator).to(q)
    root = q.sqrt()
    direction = root * z - q * (root * z).sum(-1, keepdim=True)
    missing = z * (wanted - found) / root.clamp(min=torch.finfo(q.dtype).tiny)
    return direction, missing.flatten(1).sum(1)


def _gradients(layers: Mapping[str, Layer], calls: list[tuple[str, Tensor, Tensor]], made: Any) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for (name, x, _), gradient in zip(calls, made, strict=True):
        layer = layers[name]
        own = layer.outputs(gradient) @ layer.columns(x).transpose(2, 3)  # (N, G, O, D)
        own = own.flatten(1, 2)
        total[name] = total[name] + own if name in total else own
    return total


def row_importance(
    model: nn.Module,
    reference: nn.Module,
    layers: Mapping[str, Layer],
    data: Iterable[Batch],
    hessians: Mapping[str, Tensor],
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """By weight, `(R,)`: the mean square of the gradients of a row over the mean square of what it reads. That takes in
    what the second moments of inputs (`hessians`) do not see: outputs at several places that move the network's output
    together."""
    squares = {name: torch.zeros(len(layer.values()), dtype=torch.float64) for name, layer in layers.items()}
    samples = 0
    for sketch in islice(sketches(model, reference, layers, data, generator), SKETCHES):
        samples += len(sketch.missing)
        for name, gradients in sketch.gradients.items():
            squares[name] += gradients[:, :, :-1].double().pow(2).sum((0, 2)).cpu()
    made: dict[str, Tensor] = {}
    for name, total in squares.items():
        if name in hessians:
            read = diagonal(hessians[name], len(total))[:, :-1].sum(1)
            made[name] = (total.to(read) / samples / read.clamp(min=torch.finfo(read.dtype).tiny)).float()
    return made


def diagonal(hessian_GDD: Tensor, rows: int) -> Tensor:
    """The diagonal of the Hessian of each of so many rows, `(R, D)`."""
    return hessian_GDD.diagonal(dim1=1, dim2=2).repeat_interleave(rows // len(hessian_GDD), dim=0)
