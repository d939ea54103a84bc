"""The promises of the library, on three hundred random networks: what is cut computes what the definition says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from secateur.allocate import allocate
from secateur.pipeline import prune
from secateur.score import score
from secateur.spec.expr import axes_of, kept_of
from secateur.store import load_into, save_folder
from secateur.store.history import remember_history
from secateur.structure import named_tensors
from secateur.structure.selectors import restrict
from secateur.surgery import compared, masked, shrink, shrink_, verify_traced
from secateur.testing import random_network
from secateur.testing.plans import random_plan

SEEDS = range(300)
CONTRACTIONS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution")


@pytest.mark.parametrize("seed", SEEDS)
def test_shrunk_is_the_reference(seed, case, other_inputs):
    network, traced = case(seed)
    inputs = other_inputs(network, seed)
    for only_chosen in (True, False):
        plan = random_plan(traced.structure, seed, only_chosen=only_chosen)
        small = shrink(network.model, plan)
        proof = verify_traced(network.model, small, plan, inputs, traced)
        assert proof.ok, f"{network.name}: {proof}"
        assert _lost_parameters(network.model, small) or not plan.kept, network.name
        if _zeros_can_say_it(traced, plan):
            _assert_masked_is_shrunk(network, small, plan, inputs)


def _lost_parameters(model, small):
    return sum(p.numel() for p in model.parameters()) > sum(p.numel() for p in small.parameters())


def _zeros_can_say_it(traced, plan):
    """Every reduction over a cut axis is a contraction (no statistics), and no weight is divided by its own length."""
    for number, reductions in traced.tracker.reductions.items():
        op = traced.program.ops[number]
        if op.target._schema.name in CONTRACTIONS:
            continue
        for reduction in reductions:
            if op.target._schema.name == "aten::_weight_norm_interface" or _is_cut(traced, op, reduction, plan):
                return False
    return True


def _is_cut(traced, op, reduction, plan):
    from secateur.structure.freeze import Names

    dims, names = traced.tracker.dims(op.args[reduction.arg].id), Names(traced.tracker.named)
    return any(axis in plan.kept for dim in reduction.dims for axis in axes_of(names.expr(dims[dim])))


def _assert_masked_is_shrunk(network, small, plan, inputs):
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    with torch.no_grad(), masked(network.model, plan) as zeroed:
        proof = compared([zeroed(*inputs)], [small(*inputs)], 1e-4)
    assert proof.ok, f"{network.name}: masked differs from shrunk: {proof}"
    after = network.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the mask was not taken off"


def test_zeros_can_often_say_it(case):
    hits = 0
    for seed in range(40):
        _, traced = case(seed)
        hits += _zeros_can_say_it(traced, random_plan(traced.structure, seed, only_chosen=True))
    assert hits >= 8, "too few plans for the masked law to mean anything"


@pytest.mark.parametrize("template", ["image", "text", "patch", "graph", "volume"])
def test_what_should_be_prunable_is(template):
    """Pins must not hide failures: nearly every intended place is free, and so are most parameters."""
    places = free = 0
    shares = []
    for seed in range(20):
        network = random_network(seed, template)
        from secateur.structure import trace

        structure = trace(network.model, network.inputs)
        loose = {axis.name for axis in structure.prunable}
        for name in network.free:
            places += 1
            free += any(axis in loose for axis in axes_of(structure.tensors[name].dims[0]))
        shares.append(structure.prunable_share())
    assert free >= 0.97 * places, f"{free} of {places}"
    assert np.mean(shares) > 0.95 and min(shares) > 0.6, shares


@pytest.mark.parametrize("seed", range(0, 300, 4))
def test_saved_and_loaded_is_the_same_bit_for_bit(seed, case, tmp_path):
    network, traced = case(seed)
    plan = random_plan(traced.structure, seed)
    small = shrink(network.model, plan)
    remember_history(small, [plan])
    save_folder(small, tmp_path / "saved")
    fresh = random_network(seed).model
    with torch.no_grad():
        for found in named_tensors(fresh):  # nothing may be left of what the fresh instance holds
            found.tensor.fill_(1 if found.tensor.dtype == torch.bool else 7)
    loaded = load_into(tmp_path / "saved", fresh).eval()
    expected = {found.name: found.tensor for found in named_tensors(small)}
    for found in named_tensors(loaded):
        assert torch.equal(found.tensor, expected[found.name]), f"{network.name}: {found.name}"
    with torch.no_grad():
        assert torch.equal(loaded(*network.inputs), small(*network.inputs)), network.name


@pytest.mark.parametrize("seed", range(1, 300, 6))
def test_in_place_is_the_same(seed, case):
    network, traced = case(seed)
    plan = random_plan(traced.structure, seed)
    small, here = shrink(network.model, plan), shrink_(random_network(seed).model, plan)
    with torch.no_grad():
        assert torch.equal(here(*network.inputs), small(*network.inputs)), network.name


@pytest.mark.parametrize("seed", range(2, 300, 6))
def test_gradients_flow_and_copies_work(seed, case):
    network, traced = case(seed)
    small = shrink(network.model, random_plan(traced.structure, seed, only_chosen=True))
    twin = copy.deepcopy(small)
    with torch.no_grad():
        assert torch.equal(twin(*network.inputs), small(*network.inputs))
    original = copy.deepcopy(network.model)
    for model in (original, small):
        model.train()
        model(*network.inputs).square().mean().backward()
    reached = {name for name, parameter in original.named_parameters() if parameter.grad is not None}
    for name, parameter in small.named_parameters():
        assert (parameter.grad is not None) == (name in reached), f"{network.name}: {name}"
        assert parameter.grad is None or (parameter.grad.shape == parameter.shape and parameter.grad.isfinite().all())
    assert all(parameter.grad is None for parameter in twin.parameters())
    torch.optim.SGD(small.parameters(), 0.01).step()


@pytest.mark.parametrize("seed", range(3, 300, 6))
def test_a_pruned_model_can_be_pruned(seed, case, tmp_path):
    network, _ = case(seed)
    first = prune(network.model, network.inputs, budget={"params": 0.7}, seed=seed, criterion="random")
    second = prune(first.model, network.inputs, budget={"params": 0.7}, seed=seed, criterion="random")
    assert first.verification.ok and second.verification.ok, (
        f"{network.name}: {first.verification} {second.verification}"
    )
    assert second.after["param_count"] <= 0.7 * first.after["param_count"]
    second.save(tmp_path / "twice")
    loaded = load_into(tmp_path / "twice", random_network(seed).model)
    with torch.no_grad():
        assert torch.equal(loaded(*network.inputs), second.model(*network.inputs))


@pytest.mark.parametrize("seed", range(4, 300, 6))
def test_permuting_channels_permutes_the_plan(seed, case):
    """Numbering channels otherwise is no change: the output stays, and the plan keeps the same channels."""
    network, traced = case(seed)
    structure = traced.structure
    rng = np.random.default_rng(seed)
    order = {axis.name: rng.permutation(axis.size) for axis in structure.prunable if axis.within is None}
    other = copy.deepcopy(network.model)
    with torch.no_grad():
        for found in named_tensors(other):
            for dim, expr in enumerate(structure.tensors[found.name].dims):
                positions = kept_of(expr, order, structure.sizes, {})
                if positions is not None:
                    found.tensor.copy_(found.tensor.index_select(dim, torch.from_numpy(positions)).clone())
        proof = compared([network.model(*network.inputs)], [other(*network.inputs)], 1e-4)
    assert proof.ok, f"{network.name}: the axes are no symmetry of the network: {proof}"
    plans = [
        allocate(structure, score(model, structure, criterion="l1"), {"channels": 0.6}, allocator="global")
        for model in (network.model, other)
    ]
    assert plans[0].sizes == plans[1].sizes
    for name, kept in plans[0].arrays.items():
        if name in order and kept.ndim == 1:
            assert set(order[name][plans[1].arrays[name]]) == set(kept), f"{network.name}: {name}"


@pytest.mark.parametrize("seed", range(5, 300, 10))
def test_same_seed_same_plan(seed, case):
    network, _ = case(seed)
    made = []
    for noise in range(2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        result = prune(
            network.model, network.inputs, budget={"channels": 0.5}, criterion="random", seed=11, verify=False
        )
        made.append(result.plan.to_json())
    assert made[0] == made[1]
    other = prune(network.model, network.inputs, budget={"channels": 0.5}, criterion="random", seed=12, verify=False)
    assert other.plan.to_json() != made[0]


@pytest.mark.parametrize("seed", range(0, 300, 5))
def test_other_targets(seed, case):
    """What is not cut by default (head widths, groups) can be asked for."""
    network, traced = case(seed)
    roles = sorted({axis.role for axis in traced.structure.prunable})
    for role in roles:
        structure = restrict(traced.structure, network.model, targets=[role])
        chosen = [axis for axis in structure.axes if axis.chosen]
        assert chosen and all(axis.role == role for axis in chosen)
        scores = score(network.model, structure, criterion="l2")
        plan = allocate(structure, scores, {"channels": 0.5}, allocator="uniform")
        proof = verify_traced(network.model, shrink(network.model, plan), plan, network.inputs, traced)
        assert proof.ok, f"{network.name} targets={role}: {proof}"
