"""How the outputs of a network depend on its weights, as random directions of samples.

The gradients of `u . outputs`, with the directions `u` of `Outputs.direction`, are samples whose second moment is the
Gauss-Newton matrix of the distance from the reference, and no label is needed. Samples are drawn in proportion to how
much their outputs can move, and each draw weighs as much less: outputs that are certain say next to nothing about any
weight, and cost as much to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from secateur.score.gradients import CHUNK, Batch, chunks, picked
from secateur.sparse.second_order.layers import Layer, given
from secateur.sparse.second_order.outputs import Outputs, outputs_of
from secateur.structure.capture import attached, call_model

FLOOR = 0.05
"""What is added to the chance of each sample, as a share of the mean."""

SKETCHES = 16
"""Sketches (of 32 samples) that say how much each row counts."""


@dataclass(frozen=True)
class Sketch:
    """Of some samples as drawn: how `u . outputs` of each depends on each weight, and how far it is off."""

    gradients: Mapping[str, Tensor]
    """By weight, `(N, R, D)`; zero where the layer was not called."""
    missing: Tensor
    """What `u . outputs` lacks, to first order in the distance of the network from the reference, `(N,)`."""


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
    ScoreError for a model that returns no numbers.
    """
    calls: list[tuple[str, Tensor, Tensor]] = []
    outputs: Outputs | None = None

    def watching(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            made = output if output.requires_grad else output.detach().requires_grad_()
            calls.append((name, given(args, kwargs).detach(), made))
            return made.clone()  # what reads it may write into it

        return hook

    with attached(layer.module.register_forward_hook(watching(n), with_kwargs=True) for n, layer in layers.items()):
        for batch in data:
            outputs = outputs_of(reference, batch[0]) if outputs is None else outputs
            wanted, found = (_read_all(outputs, network, batch) for network in (reference, model))
            chosen, scale = _drawn(outputs.spread(found, wanted), generator)
            for rows in chosen.split(CHUNK):
                calls.clear()
                with torch.enable_grad():
                    made = outputs.read(call_model(model, picked(batch[0], rows)))
                direction, missing = outputs.direction(found[rows], wanted[rows], generator)
                own = scale[rows]
                with torch.enable_grad():
                    total = own @ (direction * made).flatten(1).sum(1)
                    slopes = torch.autograd.grad(total, [output for _, _, output in calls], allow_unused=True)
                yield Sketch(_gradients(layers, calls, slopes), missing * own)


def _read_all(outputs: Outputs, model: nn.Module, batch: Batch) -> Tensor:
    with torch.no_grad():
        return torch.cat([outputs.read(call_model(model, inputs)) for inputs, _ in chunks(*batch)])


def _drawn(spread: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """As many samples as there are, at equal steps through their summed chances, and what to multiply the directions
    of each with, so that the mean of their squares is that over all samples."""
    chance = spread + FLOOR * spread.mean() + torch.finfo(spread.dtype).tiny
    chance = chance / chance.mean()
    at = (torch.arange(len(chance)) + torch.rand(1, generator=generator)).to(chance)
    chosen = torch.searchsorted(chance.cumsum(0), at).clamp(max=len(chance) - 1)
    return chosen, chance.rsqrt()


def _gradients(layers: Mapping[str, Layer], calls: list[tuple[str, Tensor, Tensor]], made: Any) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    for (name, x, output), slope in zip(calls, made, strict=True):
        layer, gradient = layers[name], torch.zeros_like(output) if slope is None else slope
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
