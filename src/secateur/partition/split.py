"""A network taken apart: which channels live where, what crosses, and the parts themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from secateur.partition import worth
from secateur.partition.assignment import belonging_together, by_layers, contiguous
from secateur.partition.by_hand import Given, given
from secateur.partition.crossings import Crossings, find_crossings, find_sites
from secateur.partition.device import Device, cut_shards, find_sendings, fold, run_together, shard_bytes
from secateur.partition.document import SplitRecord
from secateur.partition.folder import save_split
from secateur.partition.owners import Owners
from secateur.partition.steps import Arrangement, arrange, folded_tensors, spreadable_axes
from secateur.partition.topology import Topology
from secateur.partition.traffic import Needs, Traffic, find_needs, find_traffic
from secateur.score.gradients import Batch, batches
from secateur.spec import BudgetError, PlanError, ScoreError, Structure, Verification
from secateur.spec.expr import axes_of
from secateur.structure import Traced
from secateur.structure.capture import Inputs, call_model, normalise_inputs, tensors_in
from secateur.structure.clone import named_tensors
from secateur.structure.freeze import Names
from secateur.structure.modes import eval_mode
from secateur.structure.trace import trace_program
from secateur.surgery import compared

Strategy = Literal["filters", "layers", "auto"]
MOST_APART = 1e-4
"""By which parts may differ from the whole, of the largest output."""


@dataclass(frozen=True)
class Split:
    """Which device owns which channels of a network, whatever its weights are."""

    topology: Topology
    arrangement: Arrangement
    structure: Structure

    @cached_property
    def crossings(self) -> Crossings:
        """What may cross."""
        tensors = self.structure.tensors
        return find_crossings(self.arrangement, {name for name in tensors if tensors[name].kind == "parameter"})

    def needs(self, model: nn.Module) -> Needs:
        """What has to cross with these weights."""
        return find_needs(self.arrangement, self._folded(model))

    def traffic(self, model: nn.Module) -> Traffic:
        """Bytes that cross with these weights for as many samples as go through at a time (`arrangement.samples`)."""
        return find_traffic(self.arrangement, self.needs(model))

    def run(self, model: nn.Module, inputs: Any) -> list[Tensor]:
        """What the parts make of these inputs, as many samples as the split was made with, all in this process."""
        folded = self._folded(model)
        needs = find_needs(self.arrangement, folded)
        shards = cut_shards(self.arrangement, needs, folded)
        devices = [Device(self.arrangement, needs, shard, number) for number, shard in enumerate(shards)]
        leaves = [leaf.cpu() for leaf in tree_leaves(normalise_inputs(inputs)) if isinstance(leaf, Tensor)]
        with torch.no_grad():
            return run_together(devices, find_sendings(self.arrangement, needs), leaves)

    def verify(self, model: nn.Module, inputs: Any) -> Verification:
        """Whether the parts make what the whole makes, of these inputs and of others like them: the worse of both."""
        generator, given = torch.Generator().manual_seed(0), normalise_inputs(inputs)

        def mixed(leaf: Any) -> Any:
            """The same values at other places, so that what the forward is written for is kept to."""
            if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
                return leaf
            return leaf.flatten()[torch.randperm(leaf.numel(), generator=generator)].reshape(leaf.shape)

        found = [self._compared(model, one) for one in (given, tree_map(mixed, given))]
        return max(found, key=lambda one: (not one.ok, one.relative_diff))

    def _compared(self, model: nn.Module, inputs: Inputs) -> Verification:
        with torch.no_grad(), eval_mode(model):
            wanted = [tensor.cpu() for tensor in tensors_in(call_model(model, inputs))]
        return compared(wanted, self.run(model, inputs), MOST_APART)

    def save(
        self, folder: str | Path, model: nn.Module, made_by: Mapping[str, str | int | float | None] | None = None
    ) -> SplitRecord:
        """Write what every device needs to run its part. Raises PlanError where something would have to cross a link
        that is missing, or more than it carries, BudgetError where a device has too little memory."""
        folded = self._folded(model)
        needs = find_needs(self.arrangement, folded)
        crossing = find_traffic(self.arrangement, needs).bytes // self.arrangement.samples
        room = self.topology.most_bytes
        for sender, receiver in np.argwhere(crossing > room):
            missing = self.topology.missing[sender, receiver]
            raise PlanError(
                f"device {receiver} needs {crossing[sender, receiver]} bytes a sample of device {sender}, and "
                f"{'there is no link' if missing else f'the link carries {int(room[sender, receiver])}'}; prune with "
                "this topology first"
            )
        self._demand_memory(needs)
        shards = cut_shards(self.arrangement, needs, folded)
        return save_split(folder, self.arrangement, needs, shards, self.topology, made_by or {})

    def _demand_memory(self, needs: Needs) -> None:
        sizes = shard_bytes(self.arrangement, needs)
        for device in np.flatnonzero(sizes > self.topology.most_held):
            raise BudgetError(
                f"device {device} would hold {sizes[device]} bytes of weights; it has room for "
                f"{int(self.topology.most_held[device])}; prune with this topology first, or give it a smaller share"
            )

    def _folded(self, model: nn.Module) -> Mapping[int, Tensor]:
        held = {found.name: found.tensor.detach().cpu() for found in named_tensors(model)}
        with torch.no_grad():
            return fold(self.arrangement.program, held, folded_tensors(self.arrangement.program))


def partition(
    model: nn.Module,
    example_inputs: Any,
    topology: Topology | int,
    *,
    strategy: Strategy = "filters",
    owners: Given | None = None,
    data: Iterable[Any] | None = None,
    seed: int = 0,
) -> Split:
    """Take a network apart.

    example_inputs: as for `trace`; as many samples as are to go through at a time.
    topology: devices and links, or how many devices that are all alike.
    strategy: `filters` gives each device a share of the channels of every layer, `layers` whole layers, `auto` shares
    of channels that belong together, which takes calibration data. owners: of axes the device of each channel, or one
    device for all, in place of what the strategy says; keys are axes, modules whose axes are all meant, or `re:`
    patterns, and the last that meets an axis counts.

    Raises PlanError where the parts do not make what the network makes, ScoreError for `auto` without data.
    """
    if strategy not in get_args(Strategy):
        raise PlanError(f"unknown strategy {strategy!r}; expected {', '.join(get_args(Strategy))}")
    links = Topology.alike(topology) if isinstance(topology, int) else topology
    inputs = normalise_inputs(example_inputs)
    traced = trace_program(model, inputs, with_values=True, blocks=False)
    axes = spreadable_axes(traced)
    sizes = {axis.name: axis.size for axis in traced.structure.axes}
    if strategy == "layers":
        found = by_layers(axes, sizes, _macs(traced, axes), links.shares, links.home)
    else:
        found = contiguous(axes, sizes, links.shares, links.home)
    if strategy == "auto" and owners is None:
        if data is None:
            raise ScoreError("strategy auto looks at what channels have to do with each other: give calibration data")
        held = list(data) if hasattr(data, "__next__") else data
        found = _matched(model, traced, found, links, lambda: batches(held), seed)
    if owners is not None:
        found = replace(found, axes={**found.axes, **given(owners, found)})
    split = Split(links, arrange(traced, found), traced.structure)
    proof = split.verify(model, inputs)
    if not proof.ok:
        said = f"{proof.said()} {proof.detail}".strip()
        raise PlanError(
            "the parts of this network do not make what it makes as a whole; such networks cannot be taken apart "
            f"({said})"
        )
    return split


def _matched(
    model: nn.Module, traced: Traced, start: Owners, links: Topology, data: Callable[[], Iterable[Batch]], seed: int
) -> Owners:
    arrangement = arrange(traced, start)
    sites = list(find_sites(arrangement))
    known = worth.measure(model, {site.weight for site in sites}, data, seed)
    return belonging_together(start, worth.affinities(arrangement, sites, known), links.costs, seed)


def _macs(traced: Traced, axes: list[str]) -> dict[str, float]:
    """Of each axis the multiply-accumulates of the layers that make it."""
    names = Names(traced.tracker.named)
    found: dict[str, float] = {}
    for term in traced.tracker.macs_terms:
        made = traced.program.ops[term.op].outputs[0]
        exprs = [names.expr(node) for node in traced.tracker.dims(made)]
        axis = next((axis for expr in exprs for axis in axes_of(expr) if axis in axes), None)
        if axis is not None:
            found[axis] = found.get(axis, 0.0) + float(np.prod([node.size for node in term.sizes]))
    return found
