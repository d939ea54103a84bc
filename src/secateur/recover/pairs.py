"""Layers of a smaller network and those of the dense network that they were cut from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.sparse.second_order.layers import Layer, find_layers
from secateur.spec import Plan
from secateur.structure.capture import Inputs
from secateur.structure.clone import clone_with
from secateur.structure.lists import remove_children
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
    """By the name of the weight in the smaller network, for layers that a forward of these inputs calls in both."""
    known = _names_before(dense, plan)
    names = [name for name, parameter in small.named_parameters() if parameter.dim() > 1 and name in known]
    ours, theirs = find_layers(small, inputs, names), find_layers(dense, inputs, [known[name] for name in names])
    return {name: _pair(ours[name], theirs[known[name]], plan) for name in ours if known[name] in theirs}


def _names_before(dense: nn.Module, plan: Plan) -> dict[str, str]:
    """What the parameters of the smaller network are called in the dense one: where a block leaves a list, those behind
    it move up."""
    shorter = clone_with(dense, lambda tensor: tensor)
    remove_children(shorter, [block.module for block in plan.removed_blocks])
    before = {id(parameter): name for name, parameter in dense.named_parameters()}
    return {name: before[id(parameter)] for name, parameter in shorter.named_parameters()}


def _pair(small: Layer, dense: Layer, plan: Plan) -> Pair:
    dims, layout = plan.structure.tensors[dense.name].dims, dense.layout
    numbers = torch.arange(layout.outputs)[:, None].expand(layout.outputs, layout.columns)
    rows = small.layout.matrix(kept_entries(layout.tensor(numbers), dims, plan))[:, 0]
    factor = rescaled(dense.name, torch.ones(layout.shape), plan)
    return Pair(small, dense, rows, small.layout.matrix(kept_entries(factor, dims, plan))[:, 0])
