"""Pruning while training: what goes when, what comes back, and what a killed run goes on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import secateur as sc
from secateur.sparse import sparsity
from secateur.train.methods import (
    Channels,
    SparsitySchedule,
    Weights,
    WeightsByMovement,
    cubic,
    geometric,
    linear,
    one_shot,
)

INPUTS = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def loss_of(outputs: Tensor) -> Tensor:
    return (outputs - INPUTS[:, :4] ** 2).square().mean()


def trained(
    model: nn.Module, schedule: SparsitySchedule, steps: int, after: Callable[[], object] | None = None
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(INPUTS)).backward()
        schedule.step(optimizer.step)
        if after is not None:
            after()


def test_curves_are_those_of_the_papers() -> None:
    """AGP as the paper writes it: s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3, with s_i = 0."""
    for step in range(0, 101, 10):
        assert cubic(step / 100, 0.9) == pytest.approx(0.9 + (0 - 0.9) * (1 - step / 100) ** 3)
    left = [1 - geometric(step / 5, 1 - 0.8**5) for step in range(6)]
    assert left == pytest.approx([0.8**step for step in range(6)])
    assert [linear(step / 4, 0.8) for step in range(5)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert [one_shot(progress, 0.8) for progress in (0.0, 0.99, 1.0)] == [0, 0, 0.8]


def test_zeros_follow_the_curve_exactly() -> None:
    model, seen = small_network(), []
    schedule = SparsitySchedule(Weights(model, sparsity=0.75), steps=12, start=4, every=2)
    trained(model, schedule, 16, lambda: seen.append(round(sparsity(model) * 192)))
    curve = [round(0.75 * (1 - (1 - k / 4) ** 3) * 192) for k in (0, 1, 2, 3, 4)]
    assert seen[3::2] == [*curve, *[curve[-1]] * 2]


@pytest.mark.parametrize("memory", [1.0, 0.5, 0.0])
def test_steps_are_those_of_dense_weights_with_gradients_at_the_sparse_ones(memory: float) -> None:
    model, total = small_network(), 8 * 16 + 16 * 4
    dense = {name: value.detach().clone() for name, value in model.named_parameters()}
    masks = {name: torch.ones_like(value) for name, value in dense.items() if value.dim() > 1}
    trained(model, SparsitySchedule(Weights(model, sparsity=0.75), steps=10, memory=memory, every=2), steps=20)
    for step in range(1, 21):
        used = {name: (dense[name] * masks.get(name, 1)).requires_grad_() for name in dense}
        gradients = torch.autograd.grad(loss_of(functional_call(model, used, INPUTS)), list(used.values()))
        left = {name: torch.where(masks[name] > 0, dense[name], memory * dense[name]) for name in masks}
        dense = {name: left.get(name, dense[name]) - 0.1 * g for name, g in zip(dense, gradients, strict=True)}
        if step % 2 == 0:
            gone = round(0.75 * (1 - max(0, 1 - step / 10) ** 3) * total)
            cut = torch.cat([dense[name].abs().flatten() for name in masks]).kthvalue(gone).values
            masks = {name: (dense[name].abs() > cut).float() for name in masks}
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), dense[name] * masks.get(name, 1))


def splicing(margin: float) -> list[list[bool]]:
    """Which of two weights stays after each step: the second is larger and useless, the first is wanted to be 3."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 1.0]]))
    schedule = SparsitySchedule(Weights(model, sparsity=0.5), steps=1, every=1, margin=margin)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    seen: list[list[bool]] = []
    for _ in range(12):
        optimizer.zero_grad()
        ((model(torch.tensor([[1.0, 0.0]])) - 3) ** 2).sum().backward()
        schedule.step(optimizer.step)
        seen.append(schedule.masks["0.weight"].flatten().tolist())
    return seen


def test_a_removed_weight_returns_when_it_matters_and_by_how_much_the_margin_says() -> None:
    """It gains 0.12 a step while it is away: above 1 after the eighth, above 1.22 two steps later."""
    assert [stays == [True, False] for stays in splicing(0.0)].index(True) == 7
    assert [stays == [True, False] for stays in splicing(0.22)].index(True) == 9


def test_movement_keeps_what_moves_away_from_zero() -> None:
    model = small_network()
    target = WeightsByMovement(model, sparsity=0.5)
    schedule = SparsitySchedule(target, steps=6, curve=one_shot, every=100)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    trained(model, schedule, 6)
    moved = {name: torch.zeros_like(value) for name, value in start.items() if value.dim() > 1}
    for _ in range(6):
        leaves = {name: value.requires_grad_() for name, value in start.items()}
        gradients = torch.autograd.grad(loss_of(functional_call(model, leaves, INPUTS)), list(leaves.values()))
        for (name, value), gradient in zip(leaves.items(), gradients, strict=True):
            if name in moved:
                moved[name] -= value.detach() * gradient
            start[name] = value.detach() - 0.1 * gradient
    cut = torch.cat([score.flatten() for score in moved.values()]).kthvalue(96).values
    for name, score in moved.items():
        assert torch.equal(schedule.masks[name], score > cut)


class Residual(nn.Module):
    """Two convolutions on one residual stream, and one inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.stem(x)
        stream = stream + self.outer(torch.tanh(self.inner(stream)))
        return self.head(torch.tanh(stream).mean((2, 3)))


def residual_steps(schedule: SparsitySchedule, model: nn.Module, steps: int) -> list[list[bool]]:
    """After each step, which channels of the stream are zero in both convolutions that make it."""
    images = torch.randn(8, 1, 6, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[list[bool]] = []
    for _ in range(steps):
        optimizer.zero_grad()
        (model(images) - 1).square().mean().backward()
        schedule.step(optimizer.step)
        rows = [
            model.get_parameter(f"{name}.weight").detach().flatten(1).abs().sum(1) == 0 for name in ("stem", "outer")
        ]
        assert torch.equal(*rows), "a channel leaves all producers of a residual stream, or none"
        seen.append(rows[0].tolist())
    return seen


def test_soft_filters_are_zeroed_and_train_on_until_the_end() -> None:
    model = Residual()
    target = Channels(model, sc.trace(model, torch.randn(1, 1, 6, 6)), budget={"channels": 0.5})
    schedule = SparsitySchedule(target, steps=6, curve=lambda _progress, share: share, every=3, soft=True)
    seen = residual_steps(schedule, model, 8)
    assert [sum(zeros) for zeros in seen] == [0, 0, 3, 0, 0, 3, 3, 3]
    small = sc.shrink(model, target.plan())
    assert small.stem.weight.flatten(1).abs().sum(1).min() > 0, "the zeros are what is cut"
    assert (small.stem.out_channels, small.inner.out_channels) == (3, 2)


def test_n_of_m_holds_after_every_choice() -> None:
    model = small_network()
    schedule = SparsitySchedule(Weights(model, granularity="2:4"), steps=4, every=2)
    trained(model, schedule, 5)
    assert (model[0].weight.reshape(16, 2, 4) != 0).sum(-1).tolist() == [[2, 2]] * 16


@pytest.mark.parametrize("granularity", ["element", "block:2x2", "row"])
def test_prune_takes_over_the_very_zeros(granularity: str) -> None:
    model = small_network()
    target = Weights(model, sparsity=0.5, granularity=granularity)
    trained(model, SparsitySchedule(target, steps=10, every=3), steps=15)
    assert sparsity(model) == pytest.approx(0.5, abs=0.05)
    result = sc.prune(
        model,
        INPUTS[:1],
        granularity=granularity,
        budget={"sparsity": sparsity(model)},
        allocator="global",
    )
    assert result.verification is not None
    assert result.verification.ok
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), result.model.parameters(), strict=True))


@pytest.mark.parametrize("kind", [Weights, WeightsByMovement])
def test_a_killed_run_goes_on_with_its_state(kind: type[Weights]) -> None:
    def make(model: nn.Module) -> SparsitySchedule:
        return SparsitySchedule(kind(model, sparsity=0.75), steps=10, every=2)

    straight, killed, resumed = small_network(), small_network(), small_network()
    trained(straight, make(straight), 12)
    schedule = make(killed)
    trained(killed, schedule, 7)
    state = {
        name: value.clone() if isinstance(value, Tensor) else value for name, value in schedule.state_dict().items()
    }
    resumed.load_state_dict(killed.state_dict())
    again = make(resumed)
    again.load_state_dict(state)
    trained(resumed, again, 5)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sparsity": 1.0}, r"expected a sparsity in \[0, 1\)"),
        ({"granularity": "2:4"}, "none for N:M"),
        ({"memory": 1.1}, "memory=1.1"),
        ({"steps": 0}, "0 <= start < steps"),
        ({"every": 0}, "every=0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    asked = {"sparsity": 0.5, "granularity": "element", "steps": 10} | wrong
    target = {name: asked.pop(name) for name in ("sparsity", "granularity")}
    with pytest.raises(sc.SecateurError, match=message):
        SparsitySchedule(Weights(small_network(), **target), **asked)


def test_a_target_of_channels_takes_one_share_and_no_data() -> None:
    model = Residual()
    structure = sc.trace(model, torch.randn(1, 1, 6, 6))
    with pytest.raises(sc.SecateurError, match="one fraction that is kept"):
        Channels(model, structure, budget={"param_count": 100})
    with pytest.raises(sc.SecateurError, match="one fraction that is kept"):
        Channels(model, structure, budget={"sparsity": 0.5})
    with pytest.raises(sc.SecateurError, match="reads data"):
        Channels(model, structure, budget={"macs": 0.5}, criterion="taylor")
