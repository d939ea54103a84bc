"""The same promise under hypothesis, which tries networks and plans beyond the fixed seeds and shrinks what fails."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.structure import trace_program
from secateur.surgery import shrink, verify_traced
from secateur.testing import networks
from secateur.testing.plans import random_plan


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks(), st.integers(0, 1000), st.sampled_from([0.2, 1.0]))
def test_any_plan_on_any_network(network, seed, share):
    traced = trace_program(network.model, network.inputs)
    plan = random_plan(traced.structure, seed, share=share)
    proof = verify_traced(network.model, shrink(network.model, plan), plan, network.inputs, traced)
    assert proof.ok, f"{network.name}: {proof}"
