"""Pruning in steps, sensitivity curves and the shares that come from them."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch

import secateur as sc
from secateur.allocate import shares_from_curves, shares_that_lose_least
from secateur.models import build_model, example_inputs
from secateur.search import sensitivity_curves
from secateur.spec import BudgetError
from secateur.steps import prune_in_steps


@pytest.mark.parametrize("unit", ["channels", "params", "macs"])
@pytest.mark.parametrize("schedule", ["linear", "geometric"])
def test_steps_end_within_the_budget(unit, schedule):
    model, inputs = build_model("resnet20").eval(), example_inputs("resnet20")
    seen = []

    results = prune_in_steps(
        model,
        inputs,
        budget={unit: 0.4},
        steps=3,
        schedule=schedule,
        between=seen.append,
        config=sc.PruneConfig(round_to=4),
    )

    assert len(results) == 3
    assert seen == [result.model for result in results[:-1]]
    assert all(result.verification is not None and result.verification.ok for result in results)
    structure, last = sc.trace(model, inputs), results[-1]
    cost = sc.CostModel(structure, unit)
    spent = sc.CostModel(last.structure, unit).at(last.plan.sizes)
    assert 0.3 * cost(cost.full) < spent <= 0.4 * cost(cost.full)
    assert all(size % 4 == 0 for axis, size in last.plan.sizes.items() if axis in last.plan.kept)


def test_a_schedule_has_its_shape():
    model, inputs = build_model("lenet300").eval(), example_inputs("lenet300")
    shares = {}
    for schedule in ("linear", "geometric"):
        results = prune_in_steps(model, inputs, budget={"params": 0.25}, steps=2, schedule=schedule)
        shares[schedule] = results[0].after["param_count"] / results[0].before["param_count"]
    assert shares["linear"] == pytest.approx(0.625, abs=0.01)
    assert shares["geometric"] == pytest.approx(0.5, abs=0.01)


def test_sensitivity_finds_the_layer_that_matters():
    torch.manual_seed(0)
    model, x = build_model("lenet300").eval(), torch.randn(64, 1, 28, 28)
    with torch.no_grad():
        model.fc2.weight[:, 100:] = 0  # what the other two thirds of the first layer say is not heard
        expected = model(x)
    structure = sc.trace(model, x[:1])
    scores = sc.score(model, structure, criterion="wifv", data=[x])

    def likeness(candidate):
        with torch.no_grad():
            return -float((candidate(x) - expected).square().mean())

    curves = sensitivity_curves(model, structure, scores, likeness, ratios=(0.5, 0.9))
    shares = shares_from_curves(curves, tolerance=1e-9)

    first, second = "fc1.out", "fc2.out"
    assert curves[first][0] == (0.5, pytest.approx(0, abs=1e-9))
    assert shares[first] > 0.45 > shares[second]
    plan = sc.allocate(structure, scores, {"params": 0.6}, allocator="adaptive", shares=shares)
    assert plan.sizes[first] / 300 < plan.sizes[second] / 100


def test_shares_lose_as_little_as_any_others() -> None:
    """Against every choice of levels for three tensors."""
    generator = np.random.default_rng(0)
    kept = [0.9**level for level in range(45)]
    for _ in range(5):
        sizes = dict(zip("abc", (int(size) for size in generator.integers(100, 2000, 3)), strict=True))
        drawn = zip("abc", generator.random((3, 2)), strict=True)
        curves = {name: [(0.5, float(r)), (0.9, float(r + s))] for name, (r, s) in drawn}
        shares = shares_that_lose_least(curves, sizes, 0.8)

        def lost(name: str, share: float, curves: dict[str, list[tuple[float, float]]] = curves) -> float:
            (_, half), (_, most) = curves[name]
            at = [(0.0, 0.0), (0.5, half), (0.9, most), (1.0, most + (most - half) / 4)]
            return float(np.interp(share, *zip(*at, strict=True)))

        choices = {name: [(1 - k, k * sizes[name], lost(name, 1 - k)) for k in kept] for name in "abc"}
        least = min(
            sum(loss for _, _, loss in choice)
            for choice in product(*choices.values())
            if sum(weights for _, weights, _ in choice) <= 0.2 * sum(sizes.values())
        )
        assert sum((1 - shares[name]) * sizes[name] for name in "abc") <= 0.2 * sum(sizes.values())
        assert sum(lost(name, shares[name]) for name in "abc") == pytest.approx(least, rel=0.01)
    with pytest.raises(BudgetError, match="at most"):
        shares_that_lose_least({"a": [(0.5, 1.0)]}, {"a": 10}, 0.999)


def test_first_and_last_layers_are_kept_by_choice():
    model, inputs = build_model("lenet5").eval(), example_inputs("lenet5")
    result = sc.prune(model, inputs, budget={"params": 0.5}, ignore=("first", "last"))
    assert (result.model.conv1.out_channels, result.model.fc3.in_features) == (6, 84)
    assert result.model.fc1.out_features < 120


@pytest.mark.parametrize(("schedule", "shares"), [("linear", [0.3, 0.6, 0.9]), ("geometric", [0.5358, 0.7846, 0.9])])
def test_single_weights_go_in_steps_and_stay_gone(schedule, shares):
    model, inputs = build_model("lenet300").eval(), example_inputs("lenet300")
    config = sc.PruneConfig(granularity="element", allocator="global", criterion="random")
    results = prune_in_steps(model, inputs, budget={"sparsity": 0.9}, steps=3, schedule=schedule, config=config)
    assert [result.after["sparsity"] for result in results] == pytest.approx(shares, abs=1e-4)
    for earlier, later in pairwise(results):
        assert not any((later.masks.kept[name] & ~kept).any() for name, kept in earlier.masks.kept.items())
