"""What it costs a network when a device does not read an entry that another one owns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from secateur.partition.assignment import Affinity
from secateur.partition.crossings import Crossings, Site
from secateur.partition.steps import Arrangement
from secateur.partition.traffic import own_rows
from secateur.recover import removal
from secateur.recover.removal import Reader, removed_in_turn
from secateur.score.gradients import Batch, at_least, first_batch
from secateur.score.progress import tracked
from secateur.sparse.second_order.layers import Layer, find_layers
from secateur.sparse.second_order.moments import measure_moments
from secateur.sparse.second_order.obs import damped
from secateur.sparse.second_order.outputs import Judge
from secateur.sparse.second_order.sketch import row_importance
from secateur.structure.capture import private_copy
from secateur.structure.clone import clone

LEVELS = (0.25, 0.5, 0.75)
"""Shares of what a device reads of a tensor from others, at whose removal the network's loss is measured."""
SAMPLES = 256
"""That it is measured on."""


@dataclass(frozen=True)
class Statistics:
    """What layers read, and how much their outputs count for what the network makes."""

    model: nn.Module
    """A copy, in eval mode."""
    judge: Judge
    layers: Mapping[str, Layer]
    moments: Mapping[str, Tensor]
    importance: Mapping[str, Tensor]


def measure(model: nn.Module, weights: Iterable[str], data: Callable[[], Iterable[Batch]], seed: int = 0) -> Statistics:
    """Of the layers with these weights. data: starts reading calibration batches anew; labels are not read.

    Raises ScoreError where there is no batch.
    """
    copy, reference = clone(model).eval().requires_grad_(False), private_copy(model).eval()
    first, generator = first_batch(data())[0], torch.Generator().manual_seed(seed)
    found = find_layers(copy, first, list(weights))
    layers = {name: layer for name, layer in found.items() if layer.groups == 1}
    moments, importance = dict[str, Tensor](), dict[str, Tensor]()
    if layers:
        moments = measure_moments(copy, layers, data(), generator)
        importance = row_importance(copy, reference, layers, data(), moments, generator)
    return Statistics(copy, Judge(reference, at_least(data(), SAMPLES)), layers, moments, importance)


def affinities(arrangement: Arrangement, sites: Sequence[Site], known: Statistics) -> list[Affinity]:
    """How much outputs depend on inputs, for every site: squared weights times the mean square of what they read,
    times what the output counts for."""
    found: list[Affinity] = []
    for site in sites:
        if site.weight in known.importance:
            layer, product = known.layers[site.weight], site.step.product
            assert product is not None
            squares_RD = layer.values().double().square() * known.moments[site.weight][0].diagonal()
            values_RC = squares_RD[:, :-1].unflatten(1, (-1, layer.layout.kernel)).sum(2)
            values_RC = values_RC * known.importance[site.weight].double()[:, None]
            dims = arrangement.dims[product.weight]
            found.append(Affinity(values_RC.cpu().numpy(), dims[1 - product.columns], dims[product.columns]))
    return found


def lost_by(crossings: Crossings, known: Statistics) -> np.ndarray:
    """What the network loses when each entry does not cross, in the order in which those of a tensor and a device would
    go: rising in that order, comparable between tensors. The rows that read it make up for it with what they have left.
    """
    lost = np.zeros(len(crossings))
    groups: dict[tuple[int, int], list[tuple[np.ndarray, Site]]] = {}
    for mine, site, _, _ in crossings.readers():
        groups.setdefault((int(crossings.tensor[mine[0]]), int(crossings.receiver[mine[0]])), []).append((mine, site))
    for (_, device), readers in tracked(groups.items(), "measuring what crossings are worth", len(groups)):
        mine = readers[0][0]
        made = [_reader(crossings, site, device, known) for _, site in readers]
        levels = {round(share * len(mine)) for share in LEVELS} - {0}
        numbers = crossings.entry[mine]
        order, added = removed_in_turn(made, numbers, levels, partial(removal.lost_by, made, known.judge, known.model))
        place = dict(zip(numbers.tolist(), mine.tolist(), strict=True))
        lost[[place[number] for number in order]] = added
    return lost


def _reader(crossings: Crossings, site: Site, device: int, known: Statistics) -> Reader:
    rows = torch.from_numpy(own_rows(crossings.arrangement, site.step, device))
    return (_of_layer if site.weight in known.importance else _of_weight)(crossings, site, rows, known)


def _of_layer(crossings: Crossings, site: Site, rows: Tensor, known: Statistics) -> Reader:
    """What goes is made up for by what is left."""
    layer = known.layers[site.weight]
    inverse = torch.linalg.inv(damped(known.moments[site.weight])[0].double())
    importance = known.importance[site.weight].double()[rows]

    def write(model: nn.Module, values_RD: Tensor) -> None:
        values = layer.values()
        values[rows] = values_RD
        layer.write_(model, values)

    columns_KC = _columns(crossings, site, layer.layout.kernel)
    return Reader(write, layer.values().double()[rows], inverse, importance, columns_KC)


def _of_weight(crossings: Crossings, site: Site, rows: Tensor, known: Statistics) -> Reader:
    """Of a weight that is in no linear layer or convolution by itself, the projections of an attention say: nothing
    makes up for what goes, which counts by its squares, in units of what the network loses without all of it."""

    def write(model: nn.Module, values_RD: Tensor) -> None:
        weight = site.rows_first(model.get_parameter(site.weight).detach())
        weight[rows] = values_RD.reshape(len(rows), *weight.shape[1:])

    whole = site.rows_first(known.model.get_parameter(site.weight).detach())
    values_RD = whole[rows].double().flatten(1)
    inverse = torch.eye(values_RD.shape[1], dtype=torch.float64)
    columns_KC = _columns(crossings, site, whole[0, 0].numel())
    read = columns_KC.flatten()
    counts_R = torch.ones(len(rows), dtype=torch.float64)
    without = Reader(write, values_RD.index_fill(1, read, 0.0), inverse, counts_R, columns_KC)
    unit = removal.lost_by([without], known.judge, known.model) / max(float(values_RD[:, read].square().sum()), 1e-30)
    return Reader(write, values_RD, inverse, unit * counts_R, columns_KC)


def _columns(crossings: Crossings, site: Site, kernel: int) -> Tensor:
    """Of each entry the columns of the weight as a matrix, `(K, C)`."""
    columns = crossings.columns(site)
    return (columns[:, :, None] * kernel + torch.arange(kernel)).flatten(1)
