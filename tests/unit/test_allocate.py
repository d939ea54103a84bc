"""Allocation against brute force on problems small enough to try everything."""

from __future__ import annotations

from itertools import pairwise, product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.allocate import allocate
from secateur.allocate.merge import chosen, merged, votes
from secateur.cost import CostModel
from secateur.spec import Axis, BudgetError, Scores, Structure, Term, Tie


def _structure(sizes, *, ties=(), costs=None):
    axes = tuple(Axis(name, size, chosen=True) for name, size in sizes.items())
    chain = tuple(Term(1, pair) for pair in zip(sizes, list(sizes)[1:], strict=False))
    channels = tuple(Term(1, (name,)) for name in sizes)
    return Structure("net", "x", axes, {}, ties=ties, costs={"params": chain, "channels": channels, **(costs or {})})


def _scores(structure, seed=0):
    rng = np.random.default_rng(seed)
    return Scores("test", {axis.name: rng.random(axis.size) for axis in structure.axes})


def _all_sizes(structure):
    names = list(structure.sizes)
    for counts in product(*(range(1, size + 1) for size in structure.sizes.values())):
        yield dict(zip(names, counts, strict=True))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("allocator", ["uniform", "global"])
def test_nothing_that_fits_lies_above_the_plan(seed, allocator):
    rng = Random(seed)
    structure = _structure({"a": rng.randint(2, 5), "b": rng.randint(2, 5), "c": rng.randint(2, 5)})
    cost, value = CostModel(structure, "params"), rng.uniform(0.2, 0.95)
    limit = value * cost.at(structure.sizes)
    fitting = [sizes for sizes in _all_sizes(structure) if cost.at(sizes) <= limit]
    if not fitting:
        with pytest.raises(BudgetError):
            allocate(structure, _scores(structure, seed), {"params": value}, allocator=allocator)
        return
    plan = allocate(structure, _scores(structure, seed), {"params": value}, allocator=allocator)
    assert plan.sizes in fitting
    above = [sizes for sizes in fitting if sizes != plan.sizes and all(sizes[n] >= plan.sizes[n] for n in sizes)]
    assert not above


@pytest.mark.parametrize("seed", range(20))
def test_global_with_channels_keeps_the_highest_scores(seed):
    """With one unit of cost per index, the best plan is known: the highest scores of all, at least one per axis."""
    structure = _structure({"a": 4, "b": 5, "c": 3})
    scores = _scores(structure, seed)
    plan = allocate(structure, scores, {"channels": 0.5}, allocator="global")
    best = max(
        (sizes for sizes in _all_sizes(structure) if sum(sizes.values()) == 6),
        key=lambda sizes: sum(np.sort(scores.values[n])[::-1][:k].sum() for n, k in sizes.items()),
    )
    assert plan.sizes == best


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_knapsack_comes_close_to_trying_all(seed, budgets):
    """For one budget and for two; costs in which neighbours multiply, scores that differ in scale."""
    rng = np.random.default_rng(seed)
    names = "abcd"[: rng.integers(2, 5)]
    pairs = [*pairwise(names), *((name,) for name in names)]
    costs = {unit: tuple(Term(int(rng.integers(1, 30)), pair) for pair in pairs) for unit in ("params", "macs")}
    structure = _structure({name: int(rng.integers(2, 7)) for name in names}, costs=costs)
    values = {name: rng.random(size) ** 2 * rng.uniform(0.2, 3) for name, size in structure.sizes.items()}
    budget = {unit: rng.uniform(0.3, 0.9) for unit in list(costs)[:budgets]}

    def fits(sizes):
        models = {unit: CostModel(structure, unit) for unit in budget}
        return all(model.at(sizes) <= budget[unit] * model.at({}) + 1e-6 for unit, model in models.items())

    def lost(sizes):
        return sum(np.sort(value)[: len(value) - sizes[name]].sum() for name, value in values.items())

    best = min((lost(sizes) for sizes in _all_sizes(structure) if fits(sizes)), default=None)
    if best is None:
        with pytest.raises(BudgetError, match="nearest possible"):
            allocate(structure, Scores("test", values), budget, allocator="knapsack")
        return
    plan = allocate(structure, Scores("test", values), budget, allocator="knapsack")
    assert fits(plan.sizes)
    assert lost(plan.sizes) <= 1.5 * best + 1e-9


def test_uniform_keeps_the_same_share_everywhere():
    structure = _structure({"a": 8, "b": 16, "c": 32})
    assert allocate(structure, _scores(structure), {"channels": 0.5}).sizes == {"a": 4, "b": 8, "c": 16}


def test_several_budgets_hold_at_once():
    structure = _structure({"a": 8, "b": 8, "c": 8}, costs={"macs": (Term(100, ("a",)), Term(1, ("c",)))})
    plan = allocate(structure, _scores(structure), {"params": 0.9, "macs": 0.4}, allocator="uniform")
    assert CostModel(structure, "macs").at(plan.sizes) <= 0.4 * 808
    assert CostModel(structure, "params").at(plan.sizes) <= 0.9 * 128


@pytest.mark.parametrize("allocator", ["uniform", "global"])
@pytest.mark.parametrize("round_to", [1, 2, 4])
def test_tied_axes_keep_their_ratio_and_rounding(allocator, round_to):
    structure = _structure({"a": 24, "b": 8, "c": 48}, ties=(Tie((("a", 3), ("c", 6))),))
    plan = allocate(structure, _scores(structure), {"channels": 0.5}, allocator=allocator, round_to=round_to)
    assert plan.sizes["c"] == 2 * plan.sizes["a"] and plan.sizes["a"] % 3 == 0
    for name, size in plan.sizes.items():
        assert size % round_to == 0 or size == structure.sizes[name]


def test_an_odd_axis_that_is_not_cut_keeps_its_size_under_rounding():
    structure = _structure({"a": 7, "b": 16})
    plan = allocate(structure, _scores(structure), {"channels": 1.0}, round_to=4)
    assert plan.sizes == {"a": 7, "b": 16} and not plan.kept


def test_floors_are_kept():
    structure = _structure({"a": 10, "b": 10})
    plan = allocate(
        structure, _scores(structure), {"channels": 0.5}, allocator="global", max_remove_ratio=0.6, min_keep=3
    )
    assert min(plan.sizes.values()) >= 4
    with pytest.raises(BudgetError, match=r"nearest possible is channels=0.4"):
        allocate(structure, _scores(structure), {"channels": 0.2}, max_remove_ratio=0.6)


def test_a_refusal_names_the_nearest_that_is_then_accepted():
    structure = _structure({"a": 10, "b": 10, "c": 10})
    with pytest.raises(
        BudgetError, match=r"budget params=0.001 cannot be met.* 2 of 200 remain.*params=0\.01"
    ) as refusal:
        allocate(structure, _scores(structure), {"params": 0.001})
    nearest = float(str(refusal.value).rsplit("=", 1)[1])
    assert allocate(structure, _scores(structure), {"params": nearest}).sizes == {"a": 1, "b": 1, "c": 1}


def test_a_budget_that_is_met_without_cutting_cuts_nothing():
    structure = _structure({"a": 4, "b": 4})
    assert not allocate(structure, _scores(structure), {"param_count": 16}).kept
    assert allocate(structure, _scores(structure), {"param_count": 15}).kept


def test_sparsity_is_no_budget_for_channels():
    structure = _structure({"a": 4, "b": 4})
    with pytest.raises(BudgetError, match="element granularity"):
        allocate(structure, _scores(structure), {"sparsity": 0.5})


@pytest.mark.parametrize("option", [{"round_to": 0}, {"min_keep": 0}, {"max_remove_ratio": 1.5}])
def test_limits_out_of_range_are_refused(option):
    structure = _structure({"a": 4, "b": 4})
    with pytest.raises(BudgetError, match=next(iter(option))):
        allocate(structure, _scores(structure), {"channels": 0.5}, **option)


def test_ties_keep_the_lower_index_and_exactly_as_many_as_asked():
    assert _best([1.0, 1.0, 1.0, 1.0], 2) == (0, 1)
    assert _best([1.0, 3.0, 1.0, 2.0], 3) == (0, 1, 3)
    assert _best([[0.0, 1.0, 2.0], [2.0, 1.0, 1.0]], 2) == ((1, 2), (0, 1))


def _best(values, count):
    return chosen(Scores("test", {"axis": np.array(values)}), "axis", count, "score")


@settings(max_examples=60)
@given(st.integers(2, 12), st.integers(2, 4), st.data())
def test_votes_are_merged_as_their_names_say(size, producers, data):
    count = data.draw(st.integers(0, size - 1))
    scores = [np.array(data.draw(st.permutations(range(size)))) / 1.0 for _ in range(producers)]
    ballots = [votes(score, count) for score in scores]

    assert all(ballot.sum() == count for ballot in ballots)
    assert all((merged(ballots, "and") <= ballot).all() for ballot in ballots)
    assert all((merged(ballots, "or") >= ballot).all() for ballot in ballots)


@pytest.mark.parametrize("merge", ["score", "and", "or"])
def test_every_policy_keeps_exactly_what_the_budget_allows(merge):
    rng = np.random.default_rng(0)
    members = (rng.random(9), rng.random(9), rng.random(9))
    scores = Scores("test", {"axis": np.mean(members, axis=0)}, {"axis": members})

    for count in range(1, 10):
        kept = chosen(scores, "axis", count, merge)
        assert len(kept) == len(set(kept)) == count
        agreed = merged([votes(member, 9 - count) for member in members], "and")
        if merge == "and":
            assert not set(kept) & set(np.flatnonzero(agreed))


def test_the_worked_example_of_the_docs():
    """docs/choosing-a-criterion.md: six channels, two producers, four stay."""
    first, second = np.array([0.1, 0.2, 0.6, 0.7, 0.8, 1.0]), np.array([0.95, 0.1, 0.15, 0.7, 0.9, 1.0])
    scores = Scores("test", {"axis": (first + second) / 2}, {"axis": (first, second)})
    removed = {
        merge: set(range(6)) - set(chosen(scores, "axis", 4, merge))  # pyright: ignore[reportArgumentType]
        for merge in ("score", "and", "or")
    }
    assert removed == {"score": {1, 2}, "and": {1, 2}, "or": {0, 1}}
