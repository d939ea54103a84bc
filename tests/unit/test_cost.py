"""Costs as polynomials in the axis sizes."""

from __future__ import annotations

import secateur as sc
from secateur.spec import Axis, Term


def structure(*terms: Term) -> sc.Structure:
    axes = (Axis("a", 3), Axis("b", 5))
    return sc.Structure("Some", "", axes, {}, costs={"params": terms})


def test_a_cost_is_the_sum_of_its_terms():
    cost = sc.CostModel(structure(Term(2, ("a", "a", "b")), Term(7, ("b",)), Term(1)), "params")
    assert cost.at({}) == 2 * 9 * 5 + 7 * 5 + 1
    assert cost.at({"a": 1}) == 2 * 5 + 7 * 5 + 1


def test_a_cost_that_no_axis_moves():
    assert sc.CostModel(structure(), "params").at({"a": 1}) == 0
    assert sc.CostModel(structure(Term(4)), "params").at({}) == 4
