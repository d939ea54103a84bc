"""What is timed are the operators that the smaller network runs."""

from __future__ import annotations

import pytest
import torch

from secateur.cost.operators import timed_operators
from secateur.structure import trace_program
from secateur.surgery import shrink
from secateur.testing.plans import random_plan

WITH_COUNTS = ("convolution", "norm")
"""Operators that also take sizes as numbers."""


@pytest.mark.parametrize("seed", range(0, 300, 6))
def test_operators_at_other_sizes_are_those_of_the_smaller_network(seed, case):
    network, traced = case(seed)
    plan = random_plan(traced.structure, seed, least=2, blocks=False)  # along one entry, code makes fewer copies
    small = trace_program(shrink(network.model, plan), network.inputs)

    expected = [operator.at(small.structure.sizes) for operator in timed_operators(small)]
    found = [operator.at(plan.sizes) for operator in timed_operators(traced)]
    assert [(call.name, call.samples) for call in found] == [(call.name, call.samples) for call in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.key == other.key or not any(name in one.key for name in WITH_COUNTS)
        one.prepare(torch.device("cpu"))()
