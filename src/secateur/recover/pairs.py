"""Layers of a smaller network and those of the dense network that they were cut from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.sparse.second_order.layers import Layer, find_layers
from secateur.spec import Plan
from secateur.structure.capture import Inputs
from secateur.surgery.select import kept_entries
from secateur.surgery.shrink import rescaled


@dataclass(frozen=True)
class Pair:
    """A layer of the smaller network, and the one of the dense network that it was cut from."""

    small: Layer
    dense: Layer
    rows: Tensor
    """The dense layer's outputs that stay, `(R,)`."""
    factor: Tensor
    """What surgery multiplied them by, `(R,)`."""


def find_pairs(small: nn.Module, dense: nn.Module, plan: Plan, inputs: Inputs) -> dict[str, Pair]:
    """By the name of the weight, for layers that a forward of these inputs calls in both networks."""
    names = [name for name, parameter in small.named_parameters() if parameter.dim() > 1]
    ours, theirs = find_layers(small, inputs, names), find_layers(dense, inputs, names)
    return {name: _pair(name, ours[name], theirs[name], plan) for name in ours if name in theirs}


def _pair(name: str, small: Layer, dense: Layer, plan: Plan) -> Pair:
    dims, layout = plan.structure.tensors[name].dims, dense.layout
    numbers = torch.arange(layout.outputs)[:, None].expand(layout.outputs, layout.columns)
    rows = small.layout.matrix(kept_entries(layout.tensor(numbers), dims, plan))[:, 0]
    factor = rescaled(name, torch.ones(layout.shape), plan)
    return Pair(small, dense, rows, small.layout.matrix(kept_entries(factor, dims, plan))[:, 0])
