"""Penalties on groups, ADMM, dropout that is aimed, gates, and blocks left out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.spec import Structure
from secateur.surgery.select import removed_mask
from secateur.testing import random_network
from secateur.testing.plans import random_plan
from secateur.train.methods import (
    ADMM,
    Channels,
    GroupLasso,
    GrowingPenalty,
    HardConcreteGates,
    LayerDrop,
    Slimming,
    UnitDropout,
    WeightDropout,
    Weights,
    by_rank,
    lowest,
)
from secateur.train.methods.groups import Groups
from secateur.train.methods.reading import Reading

INPUTS = torch.randn(16, 1, 6, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 4, (16,), generator=torch.Generator().manual_seed(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(torch.relu(self.norm(self.inner(x))))


class Net(nn.Module):
    """A residual stream of six channels with a BatchNorm, and two blocks of four channels inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(torch.relu(self.norm(self.stem(x)))).mean((2, 3)))


@pytest.fixture
def model() -> Net:
    return Net()


@pytest.fixture
def structure(model: Net) -> Structure:
    return sc.trace(model, INPUTS)


def backward(model: nn.Module) -> Tensor:
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(INPUTS), LABELS)
    loss.backward()
    return loss.detach()


def train(model: nn.Module, method: Any, steps: int, rate: float = 0.05) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        backward(model)
        method.step(optimizer.step)


STREAM = ("stem.weight", "norm.weight", "norm.bias", "blocks.0.outer.weight", "blocks.0.outer.bias",
          "blocks.1.outer.weight", "blocks.1.outer.bias")  # fmt: skip
READERS = ("blocks.0.inner.weight", "blocks.1.inner.weight", "head.weight")


def stream_group(model: Net, channel: int) -> Tensor:
    """All that leaves with a channel of the residual stream, by hand."""
    rows = [model.get_parameter(name)[channel].flatten() for name in STREAM]
    return torch.cat([*rows, *(model.get_parameter(name)[:, channel].flatten() for name in READERS)]).detach()


def test_groups_hold_all_that_leaves_together(model: Net, structure: Structure) -> None:
    groups = Groups(model, structure)
    (stream,) = [axis.name for axis in groups.axes if axis.size == 6]
    by_hand = [stream_group(model, channel) for channel in range(6)]
    assert groups.counts[stream].tolist() == [len(group) for group in by_hand]
    torch.testing.assert_close(groups.norms()[stream], torch.stack([group.norm() for group in by_hand]))


@pytest.mark.parametrize("seed", range(12))
def test_factors_reach_what_a_plan_removes_in_any_network(seed: int) -> None:
    """Grouped convolutions, heads and channel shuffles among them; zeros at what a random plan takes away."""
    network = random_network(seed)
    plan = random_plan(sc.trace(network.model, network.inputs), seed, only_chosen=True, blocks=False)
    groups = Groups(network.model, plan.structure)
    kept = {axis.name: torch.ones(len(groups.counts[axis.name])) for axis in groups.axes}
    for axis in groups.axes:
        if axis.name in plan.kept:
            rows = torch.zeros(len(kept[axis.name]) // axis.size, axis.size)
            kept[axis.name] = rows.scatter(
                1, torch.from_numpy(plan.arrays[axis.name]).reshape(len(rows), -1), 1
            ).flatten()
    found = groups.spread(kept)
    for name, parameter in network.model.named_parameters():
        spec = plan.structure.tensors[name]
        removed = removed_mask(spec.shape, spec.dims, plan, torch.device("cpu")).expand(spec.shape)
        assert torch.equal(found.get(name, torch.ones(())).expand(spec.shape) == 0, removed), (name, parameter.shape)


def test_slimming_adds_the_sign_of_each_scale_that_may_go(model: Net, structure: Structure) -> None:
    with torch.no_grad():
        model.norm.weight[:2] = torch.tensor([-0.5, 0.0])
    backward(model)
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    Slimming(model, structure, strength=0.01).step(lambda: None)
    for name, parameter in model.named_parameters():
        own = 0.01 * parameter.detach().sign() if name.endswith("norm.weight") else 0
        assert torch.equal(parameter.grad, before[name] + own), name


def test_group_lasso_shrinks_by_its_proximal_step_to_exact_zeros(model: Net, structure: Structure) -> None:
    groups = Groups(model, structure)
    with torch.no_grad():
        for name in STREAM:
            model.get_parameter(name)[3] *= 1e-3
        for name in READERS:
            model.get_parameter(name)[:, 3] *= 1e-3
    stream = next(axis.name for axis in groups.axes if axis.size == 6)
    start = copy.deepcopy(model)
    norms = torch.stack([stream_group(model, channel).norm() for channel in range(6)])
    strength = 0.01
    factors = (1 - strength * len(stream_group(model, 0)) ** 0.5 / norms).clamp(min=0)
    assert (factors == 0).tolist() == [False, False, False, True, False, False]
    GroupLasso(model, structure, strength=strength).step(lambda: None)
    # in the stream alone: the stem and its norm
    torch.testing.assert_close(model.norm.weight.detach(), start.norm.weight.detach() * factors)
    assert stream_group(model, 3).abs().max() == 0
    assert groups.norms()[stream][3] == 0
    x = torch.randn(2, 1, 6, 6)
    plan = sc.Plan(structure, {stream: (0, 1, 2, 4, 5)})
    torch.testing.assert_close(sc.shrink(model, plan).eval()(x), model.eval()(x))


def test_growing_penalty_pushes_what_goes_ever_harder_and_nothing_else(model: Net, structure: Structure) -> None:
    target = Channels(model, structure, budget={"channels": 0.5})
    penalty = GrowingPenalty(target, delta=0.1, every=2, ceiling=0.3, start=1)
    values = {name: weight.detach().clone() for name, weight in target.weights.items()}
    going = target.masks(values)
    for step, coefficient in enumerate((0.0, 0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.3)):
        assert penalty.coefficient == pytest.approx(coefficient), step
        model.zero_grad(set_to_none=False)
        penalty.step(lambda: None)
        if step == 0:
            for weight in target.weights.values():
                weight.grad = torch.zeros_like(weight)
        else:
            for name, weight in target.weights.items():
                torch.testing.assert_close(weight.grad, coefficient * weight.detach() * ~going[name])


def test_a_whole_target_takes_biases_and_scales_along(model: Net, structure: Structure) -> None:
    """What it leaves in the network is what the cut leaves: nothing of the channels puts out a constant."""
    target = Channels(model, structure, budget={"channels": 0.5}, whole=True)
    masks = target.masks(target.weights)
    assert {"norm.weight", "norm.bias", "blocks.0.norm.bias", "blocks.0.outer.bias"} <= set(masks)
    assert not {"head.weight", "head.bias"} & set(masks)
    small = sc.shrink(model, target.plan()).eval()
    with torch.no_grad():
        for name, weight in target.weights.items():
            weight.mul_(masks[name])
    torch.testing.assert_close(model.eval()(INPUTS), small(INPUTS))


def test_growing_penalty_on_all_shows_what_the_loss_holds_on_to() -> None:
    """The second weight is larger, the loss wants the first: only the curvature tells."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, 0.6]]))
    by_size, by_curvature = (
        GrowingPenalty(Weights(model, sparsity=0.5), delta=0.05, every=1, pick_at=pick_at) for pick_at in (0.0, 1.0)
    )
    by_size.step(lambda: None)
    assert by_size.masks["0.weight"].tolist() == [[False, True]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    while not by_curvature.masks:
        optimizer.zero_grad()
        (3 * (model(torch.tensor([[1.0, 0.0]])) - 0.5) ** 2).sum().backward()
        by_curvature.step(optimizer.step)
    assert by_curvature.masks["0.weight"].tolist() == [[True, False]]


@pytest.mark.parametrize("granularity", ["element", "2:4", "block:2x2", "channels"])
def test_admm_draws_weights_to_the_constraint(granularity: str, model: Net, structure: Structure) -> None:
    share = None if granularity == "2:4" else 0.5
    target = (
        Channels(model, structure, budget={"channels": 0.5})
        if granularity == "channels"
        else Weights(model, sparsity=share, granularity=granularity)
    )
    admm = ADMM(target, rho=0.05, growth=1.3, every=10)
    residuals: list[float] = []
    for _ in range(11):
        train(model, admm, 20, rate=0.2)
        residuals.append(admm.residual)
    assert max(residuals[-2:]) < 0.2 * residuals[0]
    assert residuals[-1] < residuals[4] < residuals[0]
    own = {name: weight.detach() for name, weight in target.weights.items()}
    asked = {"of all parameters": dict(model.named_parameters()), "of its own": own}
    first, second = ([masks[name] for name in own] for masks in map(target.masks, asked.values()))
    assert all(map(torch.equal, first, second))


def test_admm_updates_are_those_of_the_paper() -> None:
    """Scaled form, one tensor, by hand."""
    model = nn.Linear(4, 2, bias=False)
    admm = ADMM(Weights(model, sparsity=0.5), rho=0.1, growth=2.0, ceiling=9.0, every=1)
    w, target = model.weight.detach().clone(), torch.randn(2, 4)

    def projected(x: Tensor) -> Tensor:
        return x * (x.abs() > x.abs().flatten().kthvalue(4).values)

    z, u, rho = projected(w), torch.zeros_like(w), 0.1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (0.5 * (model.weight - target).square().sum()).backward()
        admm.step(optimizer.step)
        w = w - 0.1 * ((w - target) + rho * (w - z + u))
        z = projected(w + u)
        u = (u + w - z) / 2
        rho *= 2
        torch.testing.assert_close(model.weight.detach(), w)
        assert admm.residual == pytest.approx(float((w - z).norm() / w.norm()), rel=1e-4)


def test_dropped_weights_are_the_lowest_of_each_output_at_the_rate(model: Net) -> None:
    layer = nn.Linear(100, 8, bias=False)
    small = layer.weight.abs() <= layer.weight.abs().kthvalue(50, dim=1).values[:, None]
    dropout = WeightDropout(layer, share=0.5, rate=0.4)
    kept = torch.zeros_like(layer.weight)
    for _ in range(200):
        seen = layer(torch.eye(100)).T
        kept += seen != 0
        layer.zero_grad()
        seen.sum().backward()
        assert torch.equal(layer.weight.grad, (seen != 0).float())
    assert (kept[~small] == 200).all()
    assert float(kept[small].mean()) / 200 == pytest.approx(0.6, abs=0.01)
    assert torch.equal(layer.eval()(torch.eye(100)).T, layer.weight)
    dropout.finish()
    assert torch.equal(layer.train()(torch.eye(100)).T, layer.weight)


def test_what_changes_the_forward_multiplies_and_goes_again_whatever_happens() -> None:
    layer = nn.Linear(3, 2, bias=False)
    weight = layer.weight.detach().clone()
    double, triple = (
        Reading(layer, lambda _, factor=factor: {"weight": torch.tensor(factor)}) for factor in (2.0, 3.0)
    )
    torch.testing.assert_close(layer(torch.eye(3)).T, 6 * weight)
    torch.testing.assert_close(copy.deepcopy(layer)(torch.eye(3)).T, 6 * weight)
    with pytest.raises(RuntimeError):
        layer(torch.eye(4))
    assert isinstance(layer.weight, nn.Parameter)
    double.remove()
    triple.remove()
    torch.testing.assert_close(layer(torch.eye(3)).T, weight)


def test_the_rate_of_dropout_rises_over_the_ramp() -> None:
    layer = nn.Linear(100, 80, bias=False)
    dropout = WeightDropout(layer, share=1.0, rate=0.8, ramp=4)
    seen: list[float] = []
    for _ in range(6):
        seen.append(float((layer(torch.eye(100)) == 0).float().mean()))
        dropout.step(lambda: None)
    assert seen == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8], abs=0.03)


def test_a_dropped_unit_is_gone_for_all_that_read_it(model: Net, structure: Structure) -> None:
    """As if its channel were cut, on the residual stream too."""
    model.eval()
    groups = Groups(model, structure)
    dropout = UnitDropout(model, structure, odds=lambda norms: (norms == norms.min()).to(norms))
    cut = {axis.name: tuple(i for i in range(axis.size) if i != int(groups.norms()[axis.name].argmin()))
           for axis in groups.axes}  # fmt: skip
    expected = sc.shrink(model, sc.Plan(structure, cut))(INPUTS)
    undropped = model(INPUTS)
    nn.Module.train(model, True)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    torch.testing.assert_close(model(INPUTS), expected)
    dropout.finish()
    torch.testing.assert_close(model(INPUTS), undropped)


def test_odds_of_units_follow_their_norms() -> None:
    norms = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    torch.testing.assert_close(lowest(0.4, 0.7)(norms), torch.tensor([0, 0.7, 0.7, 0, 0]))
    torch.testing.assert_close(by_rank(0.3)(norms), torch.tensor([0.3, 0.6, 0.45, 0, 0.15]))


def test_gates_have_the_law_of_hard_concrete_and_the_gradient_of_the_loss(model: Net, structure: Structure) -> None:
    gates = HardConcreteGates(model, structure, open_at_first=0.7)
    drawn = torch.stack([gates._drawn().detach() for _ in range(2000)])
    assert float((drawn > 0).float().mean()) == pytest.approx(0.7, abs=0.01)
    assert float(gates.open().detach().mean()) == pytest.approx(0.7)
    assert (drawn.min(), drawn.max()) == (0, 1)
    expected = (torch.sigmoid(gates.log_alpha.detach()) * 1.2 - 0.1).clamp(0, 1)
    torch.testing.assert_close(torch.cat(list(gates.gates().values())), expected)
    with torch.no_grad():
        model.head.weight *= 10
    torch.manual_seed(5)
    backward(model)
    slope, place = gates.log_alpha.grad.abs().max(0)
    losses = []
    for change in (1e-3, -1e-3):
        gates.log_alpha.data[place] += change
        torch.manual_seed(5)
        losses.append(float(backward(model)))
        gates.log_alpha.data[place] -= change
    assert abs(losses[0] - losses[1]) / 2e-3 == pytest.approx(float(slope), rel=0.05)


def test_gates_fold_into_what_reads_and_shut_ones_go_first(model: Net, structure: Structure) -> None:
    gates = HardConcreteGates(model, structure, strength=1.0, learning_rate=0.2)
    shut = 0
    while shut < 4:
        train(model, gates, 1)
        shut = sum(int((gate == 0).sum()) for gate in gates.gates().values())
    assert shut < 11, "else an axis would have none left"
    model.eval()
    gated = model(INPUTS)
    gates.finish()
    torch.testing.assert_close(model(INPUTS), gated)
    result = sc.prune(model, INPUTS[:1], budget={"channel_count": 14 - shut}, criterion=gates, allocator="global")
    torch.testing.assert_close(result.model.eval()(INPUTS), gated, atol=1e-5, rtol=1e-4)


def test_dropped_blocks_pass_their_input_on(model: Net) -> None:
    structure = sc.trace(model, INPUTS)
    drop = LayerDrop(model, structure, rate=0.999999)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    without = copy.deepcopy(model)
    without.blocks = nn.Sequential()
    torch.testing.assert_close(model(INPUTS), without(INPUTS))
    whole = copy.deepcopy(model).eval()(INPUTS)
    assert torch.equal(model.eval()(INPUTS), whole)
    drop.finish()
    half = sc.shrink(model, drop.every_other(0.5))
    assert len(half.blocks) == 1
    assert torch.equal(half.blocks[0].inner.weight, model.blocks[0].inner.weight)


@pytest.mark.parametrize("kind", ["growing", "admm", "gates", "dropout"])
def test_a_killed_run_goes_on_with_its_state(kind: str, model: Net, structure: Structure) -> None:
    def make(net: nn.Module) -> Any:
        weights = Weights(net, sparsity=0.5)
        return {
            "growing": lambda: GrowingPenalty(weights, delta=0.1, every=2, pick_at=0.1),
            "admm": lambda: ADMM(weights, rho=0.1, every=3),
            "gates": lambda: HardConcreteGates(net, structure),
            "dropout": lambda: WeightDropout(net, ramp=10),
        }[kind]()

    straight, killed = copy.deepcopy(model), copy.deepcopy(model)
    first, second = make(straight), make(killed)
    for net, method in ((straight, first), (killed, second)):
        torch.manual_seed(3)
        train(net, method, 7)
    resumed = copy.deepcopy(model)
    resumed.load_state_dict(killed.state_dict())
    third = make(resumed)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    for net, method in ((straight, first), (resumed, third)):
        torch.manual_seed(4)
        train(net, method, 5)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_what_cannot_work_is_refused(model: Net, structure: Structure) -> None:
    bare = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(sc.SecateurError, match="no BatchNorm scale"):
        Slimming(bare, sc.trace(bare, INPUTS))
    with pytest.raises(sc.SecateurError, match="0 residual blocks"):
        LayerDrop(bare, sc.trace(bare, INPUTS))
    with pytest.raises(sc.SecateurError, match=r"share=1\.5"):
        WeightDropout(bare, share=1.5)
    with pytest.raises(sc.SecateurError, match="rho=0"):
        ADMM(Weights(bare, sparsity=0.5), rho=0)
    with pytest.raises(sc.SecateurError, match="delta=0"):
        GrowingPenalty(Weights(bare, sparsity=0.5), delta=0)
    gates = HardConcreteGates(model, structure)
    with pytest.raises(sc.SecateurError, match="another network"):
        sc.prune(bare, INPUTS, budget={"channels": 0.5}, criterion=gates)
