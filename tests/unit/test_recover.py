"""Closed-form healing: kernels against independent computations, and networks whose damage can be healed whole."""

from __future__ import annotations

import copy
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.recover import healed_scores, joint, joint_refit_, refit_
from secateur.recover.folding import _moments, find_links, fold_
from secateur.recover.rebasing import rebase_norms_
from secateur.recover.recalibration import recalibrate_
from secateur.recover.refit import _within, fit
from secateur.recover.removal import slopes
from secateur.recover.replay import Replay
from secateur.recover.segments import Segment, find_segments, windows
from secateur.recover.shortcuts import Keeping, find_shortcuts
from secateur.recover.tuning import fit_scales
from secateur.spec import Plan
from secateur.structure.capture import as_captured, capture_with_values, normalise_inputs


class Doubled(nn.Module):
    """Inner channels of which the second half says what the first half says, beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)
        with torch.no_grad():
            for tensor in (self.bn1.bias, self.bn1.weight, self.bn2.running_mean, self.bn2.bias):
                tensor.uniform_(0.5, 1.5)
            for tensor in (self.conv1.weight, self.bn1.weight, self.bn1.bias):
                tensor[4:] = tensor[:4]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        inside = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(inside)) + x)
        return self.head(x.mean((2, 3)))


class Added(nn.Module):
    """What it makes is added to what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.out(torch.relu(self.inside(x)))


def batches(count: int = 3) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [((torch.randn(16, 3, 8, 8, generator=generator),), None) for _ in range(count)]


def cut_to(model: nn.Module, inputs: Any, kept: dict[str, tuple[int, ...]]) -> tuple[nn.Module, Plan]:
    plan = Plan(sc.trace(model, inputs), kept)
    return sc.shrink(model, plan), plan


def test_a_layer_is_fitted_to_what_it_should_make() -> None:
    x_DN = torch.cat([torch.randn(6, 50, dtype=torch.float64), torch.ones(1, 50, dtype=torch.float64)])
    wanted_RD = torch.randn(3, 7, dtype=torch.float64)
    y_RN = wanted_RD @ x_DN
    gram, cross = (x_DN @ x_DN.T / 50)[None], (x_DN @ y_RN.T / 50)[None]
    found = fit(gram, cross, torch.zeros_like(wanted_RD), 1e-12, constant=True)
    torch.testing.assert_close(found, wanted_RD, rtol=1e-6, atol=1e-6)
    free = torch.linalg.lstsq(x_DN[:6].T, y_RN.T).solution.T
    without = fit(gram, cross, torch.zeros_like(wanted_RD), 1e-12, constant=False)
    torch.testing.assert_close(without[:, :6], free, rtol=1e-6, atol=1e-6)
    assert not without[:, 6].any()


def test_a_layer_that_reads_too_little_stays_near_its_weights() -> None:
    x_DN = torch.ones(5, 2, dtype=torch.float64)  # all columns alike: any solution would do
    start = torch.randn(2, 5, dtype=torch.float64)
    gram, cross = (x_DN @ x_DN.T)[None], (x_DN @ (start @ x_DN).T)[None]
    torch.testing.assert_close(fit(gram, cross, start, 1e-3, constant=True), start)


@pytest.mark.parametrize("constant", [True, False])
def test_factors_of_what_a_layer_reads_are_least_squares(*, constant: bool) -> None:
    x_DN, start_RD, y_RN = torch.randn(6, 50).double(), torch.randn(3, 6).double(), torch.randn(3, 50).double()
    ones = torch.ones(1, 50, dtype=torch.float64)
    known = torch.cat([start_RD, torch.full((3, 1), 0.3, dtype=torch.float64)], 1)
    read = torch.cat([x_DN, ones])
    gram, cross = (read @ read.T / 50)[None], (read @ y_RN.T / 50)[None]
    found = fit_scales(gram, cross, known, 1e-12, constant=constant)

    design = (start_RD[:, None] * x_DN.T).flatten(0, 1)  # of every output and sample, what each factor multiplies
    if constant:
        design = torch.cat([design, torch.eye(3).double().repeat_interleave(50, 0)], 1)
        solved = torch.linalg.lstsq(design, y_RN.flatten()).solution
        expected = torch.cat([start_RD * solved[:6], solved[6:, None]], 1)
    else:
        solved = torch.linalg.lstsq(design, (y_RN - 0.3).flatten()).solution
        expected = torch.cat([start_RD * solved, known[:, 6:]], 1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_tuning_loses_less_than_the_cut_and_leaves_directions() -> None:
    model, (x, *_) = Doubled().eval(), [batch[0][0] for batch in batches()]
    results = {
        stage: sc.prune(model, x, budget={"channels": 0.5}, recover=stage, criterion="l2", data=[x])
        for stage in ("none", "tune")
    }
    none, tuned = (result.model.eval() for result in results.values())
    with torch.no_grad():
        assert (tuned(x) - model(x)).square().mean() < (none(x) - model(x)).square().mean()
    before, after = (network.get_parameter("conv2.weight").detach() for network in (none, tuned))
    ratios = (after / before).flatten(2).permute(1, 2, 0)  # of each column, the same for every output
    torch.testing.assert_close(ratios, ratios[..., :1].expand_as(ratios), rtol=1e-3, atol=1e-3)


def test_what_others_say_too_is_made_up_for_whole() -> None:
    model, data = Doubled().eval(), batches()
    inputs = data[0][0][0]
    small, plan = cut_to(model, inputs, {"conv1.out": (0, 1, 2, 3)})
    before = (small(inputs) - model(inputs)).abs().max()
    fitted = refit_(small, model, plan, data, torch.Generator().manual_seed(0), damping=1e-9)
    assert set(fitted) == {"stem.weight", "conv1.weight", "conv2.weight", "head.weight"}
    assert (small(inputs) - model(inputs)).abs().max() < 1e-3 * before


def test_the_cheapest_to_lose_is_what_others_say_too() -> None:
    model, data = Doubled().eval(), batches()
    structure = sc.trace(model, data[0][0][0])
    scores = healed_scores(model, structure, lambda: iter(data)).values["conv1.out"]
    gone = set(np.argsort(scores)[:4].tolist())
    assert len({index % 4 for index in gone}) == 4  # one of each pair
    assert sorted(scores)[3] < 0.1 * sorted(scores)[4]


def test_costs_are_those_of_a_fit_without_the_index() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)).eval()
    x = torch.randn(200, 6)
    read = torch.cat([model[:2](x), torch.ones(200, 1)], dim=1).detach().double()
    weight = model[2].weight.detach().double()
    structure = sc.trace(model, x[:1])
    scores = healed_scores(model, structure, lambda: iter([((x,), None)])).values["0.out"]
    lost = {}
    for index in range(5):
        left = [place for place in range(6) if place != index]
        wanted = read[:, :5] @ weight.T
        solved = torch.linalg.lstsq(read[:, left], wanted).solution
        lost[index] = float(((read[:, left] @ solved - wanted) ** 2).sum())
    assert int(np.argmin(scores)) == min(lost, key=lambda index: lost[index])


def test_a_residual_sum_is_found_behind_norms() -> None:
    program = capture_with_values(build_model("resnet20").eval(), normalise_inputs(example_inputs("resnet20")))
    found = find_shortcuts(program)
    assert found["layer1.0.conv2.weight"].norm == "layer1.0.bn2."
    assert "layer1.0.conv1.weight" not in found
    assert "layer2.0.conv2.weight" not in found  # its shortcut is made after it


def test_the_last_layer_of_a_block_makes_up_for_its_shortcut() -> None:
    """Where all that is wrong lies before the block, what a layer inside it can do about it is done."""
    torch.manual_seed(0)
    model, data = Doubled().eval(), batches()
    inputs = data[0][0][0]
    small, plan = cut_to(model, inputs, {})
    with torch.no_grad():
        small.stem.weight.mul_(0.9)
    damaged = (small(inputs) - model(inputs)).abs().max()
    refit_(small, model, plan, data, torch.Generator().manual_seed(0))
    assert (small(inputs) - model(inputs)).abs().max() < 0.05 * damaged


def test_shortcuts_are_kept_up_to_their_last_read() -> None:
    model = build_model("resnet20").eval()
    inputs = example_inputs("resnet20")
    program = capture_with_values(model, normalise_inputs(inputs))
    keeping = Keeping(program, {found.operand for found in find_shortcuts(program).values()})
    most: list[int] = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda *_: most.append(len(keeping.values)))
    with torch.no_grad(), as_captured(model), keeping:
        model(*inputs)
    assert max(most) == 1
    assert keeping.place == len(program.ops)


def test_statistics_of_norms_are_those_of_the_data() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.9)).eval()
    unused = nn.BatchNorm1d(2)
    model[1].unused = unused
    unused.running_mean.fill_(7.0)
    data = [((torch.randn(8, 2, 4, 4),), None) for _ in range(3)]
    assert recalibrate_(model, data) == ["1"]
    made = torch.cat([model[0](x).transpose(0, 1).flatten(1)[None] for ((x,), _) in data])
    assert torch.allclose(model[1].running_mean, made.mean((0, 2)), atol=1e-6)
    assert torch.allclose(model[1].running_var, made.var(2).mean(0), atol=1e-6)
    assert (model[1].momentum, model[1].training, unused.running_mean[0]) == (0.1, False, 7.0)


def test_norms_that_batches_say_nothing_about_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).eval()
    with pytest.raises(sc.SecateurError, match="larger batches"):
        recalibrate_(model, [((torch.randn(1, 2),), None)])
    assert bool((model[1].running_var == 1).all()) and not model[1].training


def test_blocks_compete_with_what_is_in_them() -> None:
    """Of three residual blocks one does nothing: it goes, and nothing is lost."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), *(Added(8) for _ in range(3)), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        model[2].out.weight.zero_()
        model[2].out.bias.zero_()
    data = [torch.randn(64, 4) for _ in range(4)]
    made = sc.prune(model, data[0][:2], budget={"params": 0.72}, data=data, granularity=("channels", "blocks"))
    assert [block.module for block in made.plan.removed_blocks] == ["2"]
    assert torch.allclose(made.model(data[0]), model(data[0]), atol=1e-3)


def test_knapsack_is_as_good_as_trying_all_on_small_problems() -> None:
    generator = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    structure = sc.trace(model, torch.randn(1, 4))
    for _ in range(10):
        values = {axis.name: np.sort(generator.random(axis.size)) ** 2 for axis in structure.prunable}
        scores = sc.Scores("given", values)
        plan = sc.allocate(structure, scores, {"params": 0.5}, allocator="knapsack")
        assert lost(plan.sizes, values) <= 1.35 * min(lost(sizes, values) for sizes in within(structure, 0.5))


def lost(sizes: Any, values: dict[str, np.ndarray]) -> float:
    return sum(float(np.sort(value)[: len(value) - sizes[name]].sum()) for name, value in values.items())


def within(structure: sc.Structure, share: float) -> list[dict[str, int]]:
    """Every choice of sizes that fits."""
    cost = sc.CostModel(structure, "params")
    names = [axis.name for axis in structure.prunable]
    full = cost.at({})
    choices = product(*(range(1, structure.sizes[name] + 1) for name in names))
    found = [dict(zip(names, sizes, strict=True)) for sizes in choices]
    return [sizes for sizes in found if cost.at(sizes) <= share * full]


def test_prune_selects_and_heals_in_one_call() -> None:
    model, data = Doubled().eval(), [x for ((x,), _) in batches()]
    wanted = model(data[0]).detach()
    model.bn1.train()
    asked = {"budget": {"channels": 0.75}, "criterion": "second-order", "allocator": "knapsack", "data": iter(data)}

    def error(network: nn.Module) -> float:
        return float((copy.deepcopy(network).eval()(data[0]).detach() - wanted).abs().max())

    modes = [module.training for module in model.modules()]
    result = sc.prune(model, data[0], recover="refit", evaluate=error, **asked)
    assert result.verification is not None and result.verification.ok
    assert result.after["accuracy"] < 0.2 * result.stages[0]["accuracy"]
    assert "after cut: accuracy" in result.table()
    assert result.run_record().stages == result.stages
    assert [module.training for module in result.model.modules()] == modes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recover": "refit"}, "look at data"),
        ({"criterion": "second-order"}, "look at data"),
        ({"recover": "prayer", "data": []}, "expected auto, none, fold, refit, joint, tune, recalibrate"),
        ({"recover": "refit", "data": []}, "no batch"),
    ],
    ids=["no data", "no data to score on", "unknown", "empty data"],
)
def test_bad_requests_say_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(sc.SecateurError, match=message):
        sc.prune(Doubled(), torch.randn(1, 3, 8, 8), budget={"channels": 0.5}, **options)


# Layers together with those that read them.


class Chain(nn.Module):
    """Layers in a row, with a flattening in between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu_(self.conv1(x))
        return self.head(torch.tanh(self.conv2(x)).mean((2, 3)))


def segments_of(model: nn.Module, inputs: Any) -> list[Segment]:
    program = capture_with_values(model.eval(), normalise_inputs(inputs))
    weights = [name for name, parameter in model.named_parameters() if parameter.dim() > 1]
    return find_segments(program, dict(model.named_parameters()), weights)


def weights_of(model: nn.Module, inputs: Any) -> list[list[str]]:
    return [segment.weights for segment in segments_of(model, inputs)]


def test_networks_are_taken_apart_where_one_tensor_carries_all() -> None:
    x = batches(1)[0][0][0]
    assert weights_of(Doubled(), x) == [["stem.weight", "conv1.weight", "conv2.weight"], ["head.weight"]]
    assert weights_of(Chain(), x) == [
        ["conv1.weight", "conv2.weight"],
        ["conv2.weight", "head.weight"],
        ["head.weight"],
    ]
    blocks = weights_of(build_model("resnet20"), example_inputs("resnet20"))
    assert blocks[1] == ["layer1.1.conv1.weight", "layer1.1.conv2.weight"]
    assert len(blocks) == 10


def test_parts_are_fitted_with_the_one_after_them_or_alone() -> None:
    segments = segments_of(Chain(), batches(1)[0][0][0])
    found = [[choice.weights for choice in choices] for choices in windows(segments)]
    first, second, last = ["conv1.weight", "conv2.weight"], ["conv2.weight", "head.weight"], ["head.weight"]
    assert found == [[[*first, "head.weight"], first], [second, second], [last]]
    (whole, part), *_ = windows(segments)
    assert (whole.start, whole.stop, whole.made) == (part.start, segments[1].stop, segments[1].made)


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "doubled", "chain"])
def test_a_replay_is_the_forward_and_follows_other_weights(name: str) -> None:
    own = {"doubled": Doubled, "chain": Chain}
    model = (own[name]() if name in own else build_model(name)).eval()
    inputs = batches(1)[0][0] if name in own else normalise_inputs(example_inputs(name))
    replay = Replay(capture_with_values(model, inputs), model)
    assert replay.agrees(model(*inputs), inputs)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    assert not replay.agrees(other(*inputs), inputs)
    made = replay.run(replay.begin(inputs), 0, len(replay.program.ops), dict(other.state_dict()))
    torch.testing.assert_close(made[replay.program.outputs[0]], other(*inputs), rtol=1e-4, atol=1e-5)


def test_layers_fitted_together_lose_less_than_one_by_one() -> None:
    """Of each two hidden units that say nearly the same, one stays; what lies between them says more than either."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6)).eval()
    with torch.no_grad():
        model[0].weight[6:] = model[0].weight[:6] + 0.1 * torch.randn(6, 8)
        model[0].bias[6:] = model[0].bias[:6]
    data = [((torch.randn(64, 8),), None) for _ in range(8)]
    fresh = torch.randn(500, 8)
    small, plan = cut_to(model, data[0][0][0], {"0.out": tuple(range(6))})

    def error() -> float:
        return float((small(fresh) - model(fresh)).square().mean().detach())

    generator = torch.Generator().manual_seed(0)
    refit_(small, model, plan, data, generator)
    alone = error()
    assert set(joint_refit_(small, model, plan, data, generator)) == {"0.weight", "2.weight"}
    assert error() < 0.6 * alone


def test_rebased_norms_change_nothing_in_eval_mode_and_little_in_train_mode() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    for norm in (model[1], model[4]):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
    x = 2 * torch.randn(200, 3, 8, 8)
    before = model.eval()(x).detach()
    assert float((copy.deepcopy(model).train()(x).detach() - before).abs().max()) > 0.5
    assert rebase_norms_(model, [((x[:120],), None), ((x[120:],), None)]) == ["1", "4"]
    torch.testing.assert_close(model(x).detach(), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.train()(x).detach(), before, rtol=1e-3, atol=1e-3)
    assert rebase_norms_(model, []) == []


def test_healing_ends_where_training_can_begin() -> None:
    model, data = Doubled().eval(), batches()
    result = sc.prune(
        model, data[0][0], budget={"channels": 0.7}, data=[inputs[0] for inputs, _ in data], recover="refit"
    )
    small, x = result.model, torch.cat([inputs[0] for inputs, _ in data])
    assert len(small.bn1.weight) < 8
    for norm, reads in ((small.bn1, small.conv1(small.stem(x))),):
        torch.testing.assert_close(norm.running_mean, reads.mean((0, 2, 3)).detach(), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(norm.running_var, reads.var((0, 2, 3)).detach(), rtol=1e-3, atol=1e-3)


def test_rows_with_zeros_are_fitted_around_them() -> None:
    torch.manual_seed(0)
    x_DN = torch.cat([torch.randn(6, 200), torch.ones(1, 200)]).double()
    wanted_ON, start_RD = torch.randn(4, 200).double(), torch.randn(4, 7).double()
    kept_RD = torch.ones(4, 7, dtype=torch.bool)
    kept_RD[:2, 1:3], kept_RD[3, 4] = False, False
    made_RD = _within(
        kept_RD,
        (x_DN @ x_DN.T)[None] / 200,
        (x_DN @ wanted_ON.T)[None] / 200,
        start_RD,
        partial(fit, damping=0.0, constant=True),
    )
    for row, keeps in enumerate(kept_RD):
        alone = torch.linalg.lstsq(x_DN[keeps].T, wanted_ON[row][:, None]).solution[:, 0]
        torch.testing.assert_close(made_RD[row, keeps], alone)
        assert not made_RD[row, ~keeps].any()


def test_layers_with_zeros_are_fitted_together_around_them() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6)).eval()
    small = copy.deepcopy(model)
    kept = {name: torch.rand_like(small.get_parameter(name)) > 0.3 for name in ("0.weight", "2.weight")}
    sc.sparse.apply_masks_(small, kept)
    data = [((torch.randn(64, 8),), None) for _ in range(16)]
    plan = Plan(sc.trace(model, data[0][0][0]), {})
    generator = torch.Generator().manual_seed(0)
    fresh = torch.randn(500, 8)
    errors = [float((small(fresh) - model(fresh)).square().mean().detach())]
    for heal in (refit_, joint_refit_):
        assert set(heal(small, model, plan, data, generator, kept=kept)) == set(kept)
        errors.append(float((small(fresh) - model(fresh)).square().mean().detach()))
        assert all(not small.get_parameter(name)[~mask].any() for name, mask in kept.items())
    assert errors[2] < errors[1] < errors[0]


def test_a_joint_step_that_harms_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = Doubled().eval(), batches()
    small, plan = cut_to(model, data[0][0][0], {"conv1.out": (0, 1, 2, 3, 5, 6)})
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}

    def away(slope: dict[str, torch.Tensor], *_: Any) -> dict[str, torch.Tensor]:
        return {name: -100 * value for name, value in slope.items()}

    monkeypatch.setattr(joint, "_conjugate_gradients", away)
    assert joint_refit_(small, model, plan, data, torch.Generator().manual_seed(0)) == []
    for name, tensor in small.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_costs_are_brought_into_line_with_what_was_measured() -> None:
    """Estimates 1, 2, 3, ... of which the first half costs nothing in truth, and the rest three times as much."""
    found = slopes(np.array([1.0, 2.0, 3.0, 4.0]).cumsum(), {0: 0.0, 2: 0.0, 3: 9.0})
    assert found == pytest.approx([0, 0, 9, 12])
    bulge = slopes(np.array([1.0, 1.0, 1.0, 1.0]).cumsum(), {0: 0.0, 1: 5.0, 4: 8.0})
    assert bulge == pytest.approx([2, 2, 2, 2])  # along the chord: a step is never dearer than the one after it


@pytest.mark.parametrize(
    "change",
    [
        lambda x: [x[:1]],
        lambda x: [x[:3], x[3:7], x[7:8]],
        lambda x: [x * 0 + 1],
        lambda x: iter([x, x]),
    ],
    ids=["one sample", "odd batches", "constant", "an iterator that ends"],
)
def test_poor_calibration_data_heals_or_harms_nothing(change: Any) -> None:
    model, x = Doubled().eval(), batches(1)[0][0][0]
    plain = sc.prune(model, x, budget={"channels": 0.75}, recover="none", data=list(change(x)), seed=1).model
    result = sc.prune(model, x, budget={"channels": 0.75}, data=change(x), seed=1)
    assert result.verification is not None and result.verification.ok
    with torch.no_grad():
        damage, left = ((network(x) - model(x)).square().mean() for network in (plain.eval(), result.model.eval()))
    assert bool(left.isfinite()) and left <= 4 * damage


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([torch.full((4, 3, 8, 8), torch.nan)], "batch 0 of the data holds values that are not finite"),
        ([torch.randn(4, 2, 8, 8)], "does not take the calibration data"),
        ([], "no batch"),
    ],
    ids=["NaN", "shape", "empty"],
)
def test_useless_calibration_data_is_refused(data: list[torch.Tensor], message: str) -> None:
    with pytest.raises(sc.SecateurError, match=message):
        sc.prune(Doubled(), torch.randn(1, 3, 8, 8), budget={"channels": 0.5}, data=data)


# Without data.


def test_moments_are_those_of_drawn_numbers() -> None:
    mean, deviation = torch.tensor([0.3, -0.5, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.7, 2.0]).double()
    alike = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.0, 0.1], [-0.3, 0.1, 1.0]], dtype=torch.float64)
    drawn = torch.randn(400_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    made = torch.relu(mean + deviation * (drawn @ torch.linalg.cholesky(alike).T))
    found = _moments(mean, deviation, alike, torch.relu)
    torch.testing.assert_close(found[0], made.mean(0), rtol=0.02, atol=0.01)
    torch.testing.assert_close(found[1], torch.cov(made.T), rtol=0.03, atol=0.03)


def test_what_is_like_what_stays_is_folded_into_it_without_data() -> None:
    model, x = Doubled().eval(), batches(1)[0][0][0]
    inputs = normalise_inputs(x)
    (link,) = find_links(capture_with_values(model, inputs))
    assert (link.weight, link.norm, link.readers) == ("conv1.weight", "bn1.", ("conv2.weight",))
    small, plan = cut_to(model, x, {"conv1.out": (0, 1, 2, 3)})
    with torch.no_grad():
        damage = (small(x) - model(x)).square().mean()
        assert fold_(small, model, plan, inputs) == ["conv2.weight"]
        assert (small(x) - model(x)).square().mean() < 0.05 * damage
    by_name = sc.prune(model, x, budget={"channels": 0.75}, recover="fold")
    assert [stage["stage"] for stage in by_name.stages] == ["cut", "fold"]
