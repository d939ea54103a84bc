"""Contracts of the extension points: call one in a test of your own extension; AssertionError says what it breaks.

Each tries the extension on random networks, with the same proof that every real run gets.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch

from secateur.allocate import Allocator, allocate
from secateur.cost import CostModel
from secateur.score import Criterion, score
from secateur.spec import BudgetError, Scores, Structure
from secateur.spec.expr import axes_of
from secateur.structure import named_tensors, trace_program
from secateur.surgery import shrink, verify_traced
from secateur.testing.networks import Network, random_network
from secateur.testing.plans import random_plan


def check_criterion(criterion: str | Criterion, *, count: int = 10) -> None:
    """A criterion gives finite scores of the right shape, the same ones twice, and leaves the weights alone."""
    for seed in range(count):
        network = random_network(seed)
        structure = trace_program(network.model, network.inputs).structure
        before = {name: value.clone() for name, value in network.model.state_dict().items()}
        state = torch.get_rng_state()
        first = score(network.model, structure, criterion=criterion, seed=seed)
        second = score(network.model, structure, criterion=criterion, seed=seed)
        _require(torch.equal(state, torch.get_rng_state()), network, "it draws from the global random state")
        after = network.model.state_dict()
        for name, value in before.items():
            _require(torch.equal(value, after[name]), network, f"it changes tensor {name!r}")
        _check_scores(network, structure, first, second)


def _check_scores(network: Network, structure: Structure, first: Scores, second: Scores) -> None:
    for name, values in first.values.items():
        axis = structure.axis[name]
        shape = (axis.size,) if axis.within is None else (structure.sizes[axis.within], axis.size)
        _require(values.shape == shape, network, f"axis {name!r}: got shape {values.shape}, expected {shape}")
        _require(bool(np.isfinite(values).all()), network, f"axis {name!r}: scores are not finite")
        _require(
            np.array_equal(values, second.values[name]), network, f"axis {name!r}: other scores on the second call"
        )
    missing = [
        axis.name for axis in structure.axes if axis.chosen and axis.name not in {**first.values, **first.skipped}
    ]
    _require(not missing, network, f"axes left out without a reason: {missing}")


def check_allocator(allocator: str | Allocator, *, count: int = 10) -> None:
    """An allocator never exceeds a budget, refuses only what is impossible, and gives the same plan twice."""
    for seed in range(count):
        network = random_network(seed)
        structure = trace_program(network.model, network.inputs).structure
        scores = score(network.model, structure, criterion="l2")
        for unit, value in (("channels", 0.5), ("params", 0.6), ("macs", 0.3)):
            try:
                plan = allocate(structure, scores, {unit: value}, allocator=allocator)
            except BudgetError:
                continue
            cost = CostModel(structure, unit)
            spent, limit = cost.at(plan.sizes), value * cost.at(structure.sizes)
            _require(spent <= limit + 1e-6, network, f"budget {unit}={value}: {spent} is over {limit}")
            again = allocate(structure, scores, {unit: value}, allocator=allocator)
            _require(plan.kept == again.kept, network, f"budget {unit}={value}: another plan on the second call")
        whole = allocate(structure, scores, {"channels": 1.0}, allocator=allocator)
        _require(not whole.kept, network, "a budget that allows everything must keep everything")


def check_rule(
    model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], *, free: tuple[str, ...] = (), count: int = 5
) -> None:
    """An operator rule is right if a network that uses the operator shrinks to what the reference says.

    model: a small network around the operator, with layers before and after it. free: tensors whose dimension 0 the
    rule ought to let go.
    """
    network = Network(type(model).__name__, copy.deepcopy(model).eval(), inputs, free)
    traced = trace_program(network.model, inputs)
    loose = {axis.name for axis in traced.structure.prunable}
    for name in free:
        dims = traced.structure.tensors[name].dims
        pins: Mapping[str, str] = {
            axis: pin.detail for axis in axes_of(dims[0]) if (pin := traced.structure.axis[axis].pin)
        }
        _require(any(axis in loose for axis in axes_of(dims[0])), network, f"{name} is pinned: {pins}")
    for seed in range(count):
        plan = random_plan(traced.structure, seed, share=1.0)
        small = shrink(network.model, plan)
        proof = verify_traced(network.model, small, plan, inputs, traced)
        _require(proof.ok, network, f"with kept sizes {dict(plan.sizes)} the shrunk model differs: {proof}")
        held = sum(found.tensor.numel() for found in named_tensors(small) if found.kind == "parameter")
        counted = CostModel(traced.structure, "params").at(plan.sizes)
        _require(held == counted, network, f"it has {held} parameters, {counted} were predicted")


def _require(holds: bool, network: Network, problem: str) -> None:
    if not holds:
        raise AssertionError(f"{network.name}: {problem}")
