"""Budgets are met and filled, costs are those that are counted."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from secateur.allocate import allocate
from secateur.score import score
from secateur.spec import BudgetError
from secateur.spec.structure import Term
from secateur.structure.clone import clone_with, meta_like
from secateur.surgery import shrink
from secateur.testing.plans import random_plan

COSTS = {"channels": "channels", "params": "params", "macs": "macs"}


def _price(structure, cost, sizes):
    """Independent of `CostModel`: python integers, term by term."""
    total = 0
    for term in structure.costs[cost]:
        assert isinstance(term, Term)
        product = term.coefficient
        for axis in term.axes:
            product *= sizes[axis]
        total += product
    return total


def _knobs(structure):
    tied = {name: tie.members for tie in structure.ties for name, _ in tie.members}
    for axis in structure.axes:
        members = tied.get(axis.name, ((axis.name, 1),))
        if members[0][0] == axis.name and all(structure.axis[name].chosen for name, _ in members):
            yield members


def _levels(structure, members, round_to):
    full = structure.sizes[members[0][0]] // members[0][1]
    return [t for t in range(1, full) if all(multiple * t % round_to == 0 for _, multiple in members)] + [full]


@pytest.mark.parametrize("seed", range(0, 300, 2))
def test_budget_is_met_and_filled_or_refused(seed, case):
    network, traced = case(seed)
    structure, rng = traced.structure, Random(seed)
    scores = score(network.model, structure, criterion=rng.choice(["l1", "l2", "random"]), seed=seed)
    for unit, cost in COSTS.items():
        value, round_to = rng.uniform(0.02, 1.0), rng.choice([1, 1, 2, 4])
        allocator = rng.choice(["uniform", "global"])
        full = _price(structure, cost, structure.sizes)
        knobs = [(members, _levels(structure, members, round_to)) for members in _knobs(structure)]
        least = dict(structure.sizes)
        for members, levels in knobs:
            least.update({name: multiple * levels[0] for name, multiple in members})
        shown = f"{network.name} {unit}={value} round_to={round_to} {allocator}"
        try:
            plan = allocate(structure, scores, {unit: value}, allocator=allocator, round_to=round_to)
        except BudgetError as error:
            smallest = _price(structure, cost, least)
            assert smallest > value * full, f"{shown}: refused what is possible: {error}"
            nearest = float(str(error).rsplit("=", 1)[1])
            assert nearest == pytest.approx(smallest / full, rel=1e-4), shown
            again = allocate(structure, scores, {unit: min(1.0, nearest * 1.00001)}, round_to=round_to)
            assert _price(structure, cost, again.sizes) == smallest, f"{shown}: the nearest possible is not"
            continue
        assert _price(structure, cost, plan.sizes) <= value * full * (1 + 1e-9), f"{shown}: over budget"
        _assert_rounded(structure, plan, round_to, shown)
        for members, levels in knobs:
            name, multiple = members[0]
            level = plan.sizes[name] // multiple
            assert level in levels, shown
            if level != levels[-1]:
                up = levels[levels.index(level) + 1]
                more = {**plan.sizes, **{other: factor * up for other, factor in members}}
                assert _price(structure, cost, more) > value * full, f"{shown}: one more step of {name} would fit"


def _assert_rounded(structure, plan, round_to, shown):
    for name in plan.kept:
        assert plan.sizes[name] % round_to == 0, f"{shown}: {name} keeps {plan.sizes[name]}"


@pytest.mark.parametrize("allocator", ["uniform", "global"])
@pytest.mark.parametrize("seed", range(1, 300, 12))
def test_a_bigger_budget_never_removes_more(seed, allocator, case):
    network, traced = case(seed)
    structure = traced.structure
    scores = score(network.model, structure, criterion="l2")
    for unit in COSTS:
        before = 0
        for value in np.linspace(0.05, 1.0, 12):
            try:
                plan = allocate(structure, scores, {unit: float(value)}, allocator=allocator)
            except BudgetError:
                assert not before, "refused although a smaller budget was met"
                continue
            now = _price(structure, COSTS[unit], plan.sizes)
            assert now >= before, f"{network.name} {unit}={value}"
            before = now
        assert plan.sizes == structure.sizes


@pytest.mark.parametrize("seed", range(0, 300, 2))
def test_predicted_cost_is_the_counted_one(seed, case):
    network, traced = case(seed)
    structure = traced.structure
    plan = random_plan(structure, seed, least=2)  # einsum multiplies by hand along a dimension of one
    for model, sizes in ((network.model, structure.sizes), (shrink(network.model, plan), plan.sizes)):
        assert _price(structure, "params", sizes) == sum(p.numel() for p in model.parameters()), network.name
        held = [*model.parameters(), *model.buffers()]
        assert _price(structure, "size_bytes", sizes) == sum(x.numel() * x.itemsize for x in held), network.name
        assert _price(structure, "macs", sizes) == _counted(model, network.inputs), network.name


def _counted(model, inputs):
    """On meta, where the fused attention of CPUs does not hide its products from the counter."""
    twin = clone_with(model, meta_like).requires_grad_(False)
    with (
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            twin(*(x.to("meta") for x in inputs))
        finally:
            torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops() // 2
