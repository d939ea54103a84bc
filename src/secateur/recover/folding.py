"""Making up for channels that leave without any data, from what BatchNorms remember.

A channel behind a BatchNorm is normal, with the BatchNorm's bias as its mean and its weight as its deviation, as far
as anything is known of it; two channels vary together as much as their filters are alike. What an activation function
makes of that has means and covariances, too, by quadrature. Each channel that leaves is then what the others say of
it, by least squares, and the layers that read it add that to the weights of the others and to their constants. That
contains folding of means (as in slimming) and merging of filters that are alike (Neuron Merging, 2020, which takes the
nearest one alone), with whatever function in between.

Suffixes of shapes: C channels, K those that stay, L those that leave, Q nodes of the quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from secateur.score.reduction import key_along
from secateur.sparse.second_order.layers import Layer, find_layers
from secateur.spec import Plan
from secateur.structure.capture import Inputs, capture_with_values
from secateur.structure.clone import clone
from secateur.structure.program import Op, Program
from secateur.structure.weights import find_norms, weights_read
from secateur.surgery.shrink import shrink

NODES = 20
"""Of the quadrature."""
RIDGE = 0.05
"""Share of the mean variance that is added to the covariances: that filters are alike says only so much."""
aten = torch.ops.aten
_KEEPS_CHANNELS_APART = (
    aten.view.default,
    aten._unsafe_view.default,
    aten.clone.default,
    aten.mean.dim,
    aten.avg_pool2d.default,
    aten._adaptive_avg_pool2d.default,
    aten.max_pool2d_with_indices.default,
)
"""Operators behind which a channel can still be told from the others by the same numbers, or nearly."""

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Link:
    """A BatchNorm, what is made of its channels, and the layers that read them."""

    weight: str
    """What makes the channels."""
    norm: str
    """Prefix of the BatchNorm's tensors."""
    function: Function
    readers: tuple[str, ...]


def fold_(small: nn.Module, dense: nn.Module, plan: Plan, inputs: Inputs) -> list[str]:
    """Give layers of the smaller network what they lose by the cut; returns the weights that changed.

    plan: what it was cut by. inputs: examples, of which the shapes count alone. Axes that are made otherwise than by a
    BatchNorm and functions of single numbers, such as those of a residual sum, are left out.
    """
    program = capture_with_values(dense, inputs)
    copy = clone(dense).eval().requires_grad_(False)
    layers = find_layers(copy, inputs, list(plan.structure.reads))
    changed: list[str] = []
    for link in find_links(program):
        for axis in plan.structure.axes:
            norm = plan.structure.tensors[f"{link.norm}weight"].dims[0]
            if axis.name == norm and axis.name in plan.kept and all(name in layers for name in link.readers):
                mixture = _mixture(dense, link, torch.tensor(plan.kept[axis.name]))
                for name in link.readers:
                    changed += [name] if _add_(copy, layers[name], plan, axis.name, mixture) else []
    if changed:
        small.load_state_dict(shrink(copy, plan).state_dict())
    return changed


def find_links(program: Program) -> Iterator[Link]:
    """BatchNorms whose channels reach layers by way of functions of single numbers alone."""
    readers: dict[int, list[int]] = {}
    for place, op in enumerate(program.ops):
        for number in dict.fromkeys(op.reads):
            readers.setdefault(number, []).append(place)
    products = dict(weights_read(program))
    norms = {norm.norm: norm.weight for norm in find_norms(program)}
    for op in program.ops:
        prefix = program.named.get(op.reads[1], "").removesuffix("weight") if len(op.reads) > 1 else ""
        if prefix in norms and op.target._schema.name.startswith("aten::native_batch_norm"):
            found = _followed(program, op.outputs[0], readers, products)
            if found is not None:
                yield Link(norms[prefix], prefix, *found)


def _followed(
    program: Program, number: int, readers: Mapping[int, list[int]], products: Mapping[int, str]
) -> tuple[Function, tuple[str, ...]] | None:
    steps: list[Op] = []
    while number not in program.outputs:
        places = readers.get(number, [])
        if places and all(place in products for place in places):
            return lambda x: _applied(steps, x), tuple(products[place] for place in places)
        op = program.ops[places[0]] if len(places) == 1 else None
        if op is None or len(op.reads) != 1:
            return None
        if torch.Tag.pointwise in op.target.tags or op.target._schema.is_mutable:
            steps.append(op)
        elif op.target not in _KEEPS_CHANNELS_APART:
            return None
        number = op.outputs[0]
    return None


def _applied(steps: list[Op], x: Tensor) -> Tensor:
    for op in steps:
        x = op.target(x.clone(), *op.args[1:], **op.kwargs)
    return x


@dataclass(frozen=True)
class Mixture:
    """What the channels that leave are, in terms of those that stay."""

    stay: Tensor
    leave: Tensor
    shares_LK: Tensor
    rest_L: Tensor
    """What is left of their means."""


def _mixture(dense: nn.Module, link: Link, stay: Tensor) -> Mixture:
    held = dense.state_dict()
    weight, bias = held[f"{link.norm}weight"].double(), held[f"{link.norm}bias"].double()
    filters = torch.nn.functional.normalize(held[link.weight].double().flatten(1), dim=1) * weight.sign()[:, None]
    leave = torch.tensor(np.setdiff1d(np.arange(len(weight)), stay.numpy()))
    mean_C, cov_CC = _moments(bias, weight.abs(), (filters @ filters.T).clamp(-1, 1), link.function)
    inner = cov_CC[stay][:, stay]
    ridge = torch.eye(len(stay), dtype=inner.dtype) * (RIDGE * inner.diagonal().mean()).clamp(min=1e-12)
    shares_LK = torch.linalg.solve(inner + ridge, cov_CC[stay][:, leave]).T
    return Mixture(stay, leave, shares_LK, mean_C[leave] - shares_LK @ mean_C[stay])


def _moments(mean_C: Tensor, deviation_C: Tensor, alike_CC: Tensor, function: Function) -> tuple[Tensor, Tensor]:
    """Means and covariances of a function of normal numbers with these correlations."""
    nodes, weights = (torch.as_tensor(found) for found in np.polynomial.hermite_e.hermegauss(NODES))
    weights = weights / weights.sum()
    made_CQ = function(mean_C[:, None] + deviation_C[:, None] * nodes)
    mean = made_CQ @ weights
    products = torch.empty_like(alike_CC)
    for row, alike_C in enumerate(alike_CC):
        other_CQQ = alike_C[:, None, None] * nodes[:, None] + (1 - alike_C**2).sqrt()[:, None, None] * nodes
        other_CQQ = function(mean_C[:, None, None] + deviation_C[:, None, None] * other_CQQ)
        products[row] = torch.einsum("q,cqp,q,p->c", made_CQ[row], other_CQQ, weights, weights)
    covariance = products - mean[:, None] * mean
    return mean, (covariance + covariance.T) / 2


def _add_(model: nn.Module, layer: Layer, plan: Plan, axis: str, mixture: Mixture) -> bool:
    """Let the layer read of the channels that stay what it read of those that leave."""
    structure = plan.structure
    dims, dim = structure.tensors[layer.name].dims, structure.reads[layer.name]
    key = key_along(dims[dim], structure.axis[axis], structure) if layer.groups == 1 else None
    if key is None:
        return False
    columns = torch.as_tensor(key).repeat_interleave(layer.layout.kernel)
    order = torch.argsort(columns, stable=True)[int((columns < 0).sum()) :]
    places_CP = order.reshape(structure.sizes[axis], -1)
    values_RD = layer.values().double()
    lost_RLP = values_RD[:, places_CP[mixture.leave]]
    places_KP = places_CP[mixture.stay]
    values_RD[:, places_KP] += torch.einsum("rlp,lk->rkp", lost_RLP, mixture.shares_LK)
    if layer.constant is not None:
        values_RD[:, -1] += torch.einsum("rlp,l->r", lost_RLP, mixture.rest_L)
    layer.write_(model, values_RD.float())
    return True
