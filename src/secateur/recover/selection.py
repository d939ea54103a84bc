"""Which indices of an axis to remove, and what that costs, when the layers that read it make up for it.

Group Optimal Brain Surgeon, greedily: the index whose columns can best be made up for by the other columns goes first,
the others take over, and so on (Optimal Brain Surgeon, 1993, for groups of weights, as in ZipLM, 2023, and OSSCAR,
2024). What every layer that reads the axis loses is added up, in units of the divergence of the network's outputs: each
output counts as much as the squared gradients of its weights say. At some levels the divergence itself is measured,
with nothing but this axis cut, and the sums are brought into line with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from secateur.cost import network_costs
from secateur.recover.removal import Reader, lost_by, removed_in_turn
from secateur.recover.segments import find_segments
from secateur.score.gradients import Batch, at_least, first_batch, picked
from secateur.score.progress import tracked
from secateur.score.reduction import key_along
from secateur.sparse.second_order.layers import Layer, find_layers
from secateur.sparse.second_order.moments import measure_moments
from secateur.sparse.second_order.obs import damped
from secateur.sparse.second_order.outputs import Judge, output_tensor
from secateur.sparse.second_order.sketch import row_importance
from secateur.spec import Axis, Scores, Structure
from secateur.spec.expr import axes_of
from secateur.structure.capture import Inputs, call_model, capture_with_values, private_copy
from secateur.structure.clone import clone
from secateur.surgery.bypass import bypassed

SECOND_ORDER = "second-order"
"""Name of the criterion."""
COARSE, FINE = (0.25, 0.5, 0.7, 0.85), (0.08, 0.16, 0.25, 0.37, 0.5, 0.7, 0.85)
"""Shares of an axis at whose removal the divergence is measured."""
WORK = 6e12
"""Multiply-accumulates, about, that measuring at the fine ones may take."""
HEALED_TOGETHER = 0.5
"""What is left of the loss of an axis, about, when the layers that make it and those that read it are fitted together;
seen on training images of CIFAR-10."""
CHECK = 2048
"""Rows of outputs that it is measured on, where the data holds as many: one per image, one per token."""
FEWEST, MOST = 64, 256
"""Samples that it is measured on at the coarse levels; at the fine ones at least the latter, and `FINER` times as many
at most: allocation takes differences of small numbers."""
FINER = 4


def allocator_for(criterion: object) -> str:
    """The allocator that goes with the scores: `knapsack` where they are losses, which add up, not only an order."""
    return "knapsack" if criterion == SECOND_ORDER else "uniform"


def healed_scores(
    model: nn.Module, structure: Structure, data: Callable[[], Iterable[Batch]], *, seed: int = 0
) -> Scores:
    """What it costs to remove each index after those before it, for every chosen axis that layers read: never falling
    in the order in which indices go, comparable between axes. Of a residual block it is what is measured without it.

    data: starts reading calibration batches anew; labels are not read. Axes that no layer reads which could make up
    for them are skipped.
    """
    copy, reference = (clone(model), private_copy(model))
    copy, reference = copy.eval().requires_grad_(False), reference.eval()
    first = first_batch(data())[0]
    layers = find_layers(copy, first, list(structure.reads))
    generator = torch.Generator().manual_seed(seed)
    hessians = measure_moments(copy, layers, data(), generator)
    counts = row_importance(copy, reference, layers, data(), hessians, generator)
    chosen = [axis for axis in structure.axes if axis.chosen]
    levels, samples = _effort(reference, first, network_costs(structure)["macs"] * len(chosen))
    judge = Judge(reference, at_least(data(), samples))
    parts = _parts(copy, first, layers)
    values: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    for block in structure.blocks:
        if structure.axis[block.axis].chosen:
            with bypassed(copy, [block]):
                values[block.axis] = np.array([judge(copy)])
    scored = [axis for axis in chosen if axis.name not in values]
    for axis in tracked(scored, "measuring what axes are worth", len(scored)):
        readers = list(_readers(axis, structure, layers, hessians, counts))
        if readers:
            found = _scores(axis, readers, structure, judge, copy, levels)
            values[axis.name] = found * (HEALED_TOGETHER if _lies_within(axis, structure, parts) else 1)
        else:
            skipped[axis.name] = "no layer reads it that could make up for it"
    return Scores(SECOND_ORDER, values, skipped=skipped, seed=seed)


def _effort(reference: nn.Module, inputs: Inputs, macs: float) -> tuple[tuple[float, ...], int]:
    """The levels to measure the loss at, and how many samples to measure it on.

    macs: of one sample, with every axis cut once.
    """
    with torch.no_grad():
        rows = output_tensor(call_model(reference, picked(inputs, slice(0, 1)))).shape[1:-1].numel()
    few = min(MOST, max(FEWEST, CHECK // max(1, rows)))
    affordable = int(WORK / max(1, macs * len(FINE)))
    return (FINE, min(FINER * few, affordable)) if affordable >= few else (COARSE, few)


def _parts(model: nn.Module, inputs: Inputs, layers: Mapping[str, Layer]) -> list[set[str]]:
    """Weights that are fitted together."""
    program = capture_with_values(model, picked(inputs, slice(0, 2)))
    found = find_segments(program, {name for name, _ in model.named_parameters()}, layers.keys())
    return [set(segment.weights) for segment in found]


def _lies_within(axis: Axis, structure: Structure, parts: list[set[str]]) -> bool:
    """Whether all layers that make the axis or read it are of one part."""
    holding = {
        name
        for name in structure.reads
        for place in (0, 1)
        if axis.name in axes_of(structure.tensors[name].dims[place])
    }
    return any(holding <= part for part in parts)


def _readers(
    axis: Axis,
    structure: Structure,
    layers: Mapping[str, Layer],
    hessians: Mapping[str, Tensor],
    counts: Mapping[str, Tensor],
) -> Iterator[Reader]:
    for name, dim in structure.reads.items():
        dims = structure.tensors[name].dims
        if name not in hessians or layers[name].groups > 1 or axis.name not in axes_of(dims[dim]):
            continue
        key = key_along(dims[dim], axis, structure)
        if key is None:
            continue
        layout = layers[name].layout
        per_column = torch.as_tensor(key).repeat_interleave(layout.kernel)
        inverse = torch.linalg.inv(damped(hessians[name])[0].double())
        holding = per_column.argsort(stable=True)[int((per_column < 0).sum()) :]
        columns_KC = holding.reshape(_count(axis, structure), -1)
        yield Reader(layers[name].write_, layers[name].values().double(), inverse, counts[name].double(), columns_KC)


def _count(axis: Axis, structure: Structure) -> int:
    return axis.size * (structure.sizes[axis.within] if axis.within is not None else 1)


def _scores(
    axis: Axis,
    readers: list[Reader],
    structure: Structure,
    judge: Judge,
    model: nn.Module,
    shares: Sequence[float],
) -> np.ndarray:
    """Indices go within each parent as long as one is left there; at some levels the model is judged, whose layers are
    set to what the readers have become, and back."""
    count = _count(axis, structure)
    levels = {round(share * count) for share in shares}
    order, added = removed_in_turn(readers, np.arange(count), levels, lambda: lost_by(readers, judge, model))
    scores = np.empty(count)
    scores[order] = added
    return scores if axis.within is None else scores.reshape(-1, axis.size)
