"""Each criterion against an independent computation in a few lines."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateur.allocate.allocators import ALLOCATORS
from secateur.score import CRITERIA, score
from secateur.spec import RegistryError, ScoreError
from secateur.structure import trace
from secateur.testing import check_allocator, check_criterion


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.b, self.c = nn.Conv2d(4, 6, 3, groups=2), nn.Linear(6 * 4, 5)

    def forward(self, x):
        return self.c(self.b(self.norm(self.a(x))).flatten(1))


@pytest.fixture
def net():
    torch.manual_seed(1)
    model = Net().eval()
    nn.init.uniform_(model.norm.weight, -1, 1)
    return model, trace(model, torch.randn(1, 3, 6, 6))


def _members(model, elements):
    """The group of the channels of `a` as (group, channel in group), and that of the outputs of `b`, by hand."""
    a, b = elements(model.a.weight.detach().double()), elements(model.b.weight.detach().double())
    c = elements(model.c.weight.detach().double()).reshape(5, 2, 3, 4)
    inputs = [a.sum((1, 2, 3)).reshape(2, 2), b.reshape(2, 3, 2, 9).sum((1, 3))]
    outputs = [b.sum((1, 2, 3)).reshape(2, 3), c.sum((0, 3))]
    return inputs, outputs


@pytest.mark.parametrize(("criterion", "elements", "power"), [("l1", torch.abs, 1.0), ("l2", torch.square, 0.5)])
def test_norms_over_the_group(net, criterion, elements, power):
    model, structure = net
    scores = score(model, structure, criterion=criterion)
    assert len(scores.values) == 2
    for values, members in zip(scores.values.values(), _members(model, elements), strict=True):
        expected = sum((member**power) / (member**power).mean() for member in members) / len(members)
        np.testing.assert_allclose(values, expected.numpy(), rtol=1e-6)


def test_bn_scale_is_gamma_and_says_where_it_does_not_apply(net):
    model, structure = net
    scores = score(model, structure, criterion="bn-scale")
    (name,) = scores.values
    np.testing.assert_allclose(scores.values[name].reshape(-1), model.norm.weight.detach().abs().numpy(), rtol=1e-6)
    assert set(scores.values) | set(scores.skipped) == {axis.name for axis in structure.axes if axis.chosen}
    assert all("bn-scale does not apply" in reason for reason in scores.skipped.values())


def test_random_depends_on_the_seed_alone(net):
    model, structure = net
    first, second, other = (score(model, structure, criterion="random", seed=seed).values for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)
    assert all(((values >= 0) & (values < 1)).all() for values in first.values())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_weights_that_are_not_finite_are_named(net, criterion, bad):
    model, structure = net
    with torch.no_grad():
        model.b.weight[1, 0, 0, 0] = bad
    with pytest.raises(ScoreError, match=r"'b\.weight' .*not finite"):
        score(model, structure, criterion=criterion)


def test_a_criterion_that_applies_nowhere_is_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    with pytest.raises(ScoreError, match="scores no axis"):
        score(model, trace(model, torch.randn(1, 3)), criterion="bn-scale")


def test_an_unknown_criterion_names_the_nearest(net):
    with pytest.raises(RegistryError, match="l1"):
        score(*net, criterion="l11")


def test_zero_channels_score_lowest():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[2] = 0
        model[2].weight[:, 2] = 0
    for criterion in ("l1", "l2"):
        (values,) = score(model, trace(model, torch.randn(1, 3)), criterion=criterion).values.values()
        assert values.argmin() == 2 and values[2] == 0


@pytest.mark.parametrize("criterion", ["l1", "l2", "random"])
def test_criteria_keep_their_contract(criterion):
    assert criterion in dict(CRITERIA.describe())
    check_criterion(criterion, count=6)


@pytest.mark.parametrize("allocator", [name for name, _ in ALLOCATORS.describe()])
def test_allocators_keep_their_contract(allocator):
    check_allocator(allocator, count=6)


def test_the_contract_notices_a_criterion_that_draws_from_the_global_state():
    def careless(question):
        return {axis.name: torch.rand(axis.size) for axis in question.axes if axis.within is None}

    with pytest.raises(AssertionError, match="random state"):
        check_criterion(careless, count=1)


def test_the_contract_notices_an_allocator_that_keeps_everything():
    with pytest.raises(AssertionError, match="over"):
        check_allocator(lambda fit: [len(knob.levels) - 1 for knob in fit.knobs], count=1)
