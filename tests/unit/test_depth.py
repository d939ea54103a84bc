"""Residual blocks that leave as a whole: which can, why others cannot, and what becomes of the model."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.search import sensitivity_curves
from secateur.spec import BudgetError, PlanError, ScoreError, SelectorError
from secateur.steps import prune_in_steps
from secateur.structure.selectors import restrict
from secateur.surgery import structured_masks
from secateur.surgery.prunable import apply_plan

WIDTH = 8


class Layer(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)
        self.number = number

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x)))) * gain


class Tokens(nn.Module):
    """Layers over tokens; how they are walked is up to the subclass."""

    def __init__(self, layers: int = 4) -> None:
        super().__init__()
        self.inside, self.head = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 5)
        self.layers = nn.ModuleList(Layer(number) for number in range(layers))
        self.count = layers
        self.config = SimpleNamespace(kinds=["plain", "loud"] * (layers // 2))

    def walk(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.walk(self.inside(x)))


INPUTS = (torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)),)


def free_blocks(structure: sc.Structure) -> list[str]:
    return [block.module for block in structure.blocks if structure.axis[block.axis].pin is None]


def without(structure: sc.Structure, *modules: str) -> sc.Plan:
    return sc.Plan(structure, {block.axis: () for block in structure.blocks if block.module in modules})


def test_residual_blocks_are_found_and_nothing_else() -> None:
    structure = sc.trace(build_model("resnet20"), example_inputs("resnet20"))
    stages = [f"layer{stage}.{number}" for stage in (1, 2, 3) for number in range(3)]
    assert free_blocks(structure) == [name for name in stages if name not in ("layer2.0", "layer3.0")]
    assert {block.dim for block in structure.blocks} == {1}
    assert not any(structure.axis[block.axis].chosen for block in structure.blocks)
    assert sc.trace(build_model("vgg9_bn"), example_inputs("vgg9_bn")).blocks == ()

    norms = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    assert sc.trace(norms, torch.randn(2, 3)).blocks == ()
    tokens = sc.trace(Tokens(), INPUTS)
    assert free_blocks(tokens) == [f"layers.{number}" for number in range(4)]
    assert {block.dim for block in tokens.blocks} == {2}


class ByNumber(Tokens):
    def walk(self, x: Tensor) -> Tensor:
        for number in range(self.count):
            x = self.layers[number](x)
        return x


class EveryOther(Tokens):
    def walk(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x) if number % 2 else F.relu(layer(x))
        return x


class SideBySide(Tokens):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in self.layers)

    def walk(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = norm(layer(x))
        return x


class AllReturned(Tokens):
    def forward(self, x: Tensor) -> list[Tensor]:
        found = [self.inside(x)]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return found


class Twice(Tokens):
    def walk(self, x: Tensor) -> Tensor:
        return super().walk(super().walk(x))


class SharedWeights(Tokens):
    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.up.weight = self.layers[0].up.weight


class ReadOutside(Tokens):
    def walk(self, x: Tensor) -> Tensor:
        return super().walk(x) + sum(layer.down.bias.sum() for layer in self.layers)


class InPlace(Tokens):
    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.forward = lambda x, layer=layer: x.add_(layer.down(F.gelu(layer.up(x))))  # type: ignore[method-assign]


class KindOutside(Tokens):
    def walk(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x).relu() if self.config.kinds[number] == "plain" else layer(x).tanh()
        return x * len(self.config.kinds[0])


@pytest.mark.parametrize(
    ("kind", "code", "detail"),
    [
        (ByNumber, "entangled", "the forward fails"),
        (EveryOther, "entangled", "does something else"),
        (SideBySide, "entangled", "does something else"),
        (AllReturned, "entangled", "returns both"),
        (Twice, "shared", "runs 2 times"),
        (SharedWeights, "shared", "holds a tensor"),
        (ReadOutside, "entangled", "read outside"),
        (InPlace, "entangled", "writes into"),
        (KindOutside, "entangled", "entries of config.kinds"),
    ],
)
def test_what_holds_a_block_is_said(kind: type[Tokens], code: str, detail: str) -> None:
    structure = sc.trace(kind().eval(), INPUTS)
    pins = [structure.axis[block.axis].pin for block in structure.blocks]
    assert len(pins) == 4
    for pin in pins:
        assert pin is not None
        assert pin.code == code
        assert detail in pin.detail


def counted(structure: sc.Structure) -> dict[str, int]:
    units = ("params", "macs", "size_bytes", "activation_bytes")
    return {unit: sc.CostModel(structure, unit).at(structure.sizes) for unit in units}


@settings(max_examples=15)
@given(st.sets(st.integers(0, 6)))
def test_any_blocks_of_a_resnet_can_leave(numbers: set[int]) -> None:
    model, inputs = build_model("resnet20").eval(), (torch.randn(2, 3, 16, 16),)
    structure = sc.trace(model, inputs)
    plan = without(structure, *(structure.blocks[number].module for number in numbers))
    check_removal(model, plan, inputs)


@settings(max_examples=15)
@given(st.sets(st.integers(0, 3)))
def test_any_layers_of_a_transformer_can_leave(numbers: set[int]) -> None:
    layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True) for _ in range(4)]
    model, inputs = nn.Sequential(nn.Linear(3, 8), nn.Sequential(*layers), nn.Linear(8, 5)).eval(), INPUTS
    structure = sc.trace(model, inputs)
    plan = without(structure, *(f"1.{number}" for number in numbers))
    check_removal(model, plan, inputs)


def check_removal(model: nn.Module, plan: sc.Plan, inputs: tuple[Tensor, ...]) -> None:
    """Shrunk, shrunk in place and masked are the reference; what is left costs what was predicted."""
    small = sc.shrink(model, plan)
    assert sc.verify(model, small, plan, inputs).ok
    with torch.no_grad():
        expected = small(*inputs)
        assert torch.equal(sc.shrink_(copy.deepcopy(model), plan)(*inputs), expected)
        with sc.masked(model, plan) as bypassing:
            torch.testing.assert_close(bypassing(*inputs), expected)
        if plan.removed_blocks:
            assert not torch.allclose(model(*inputs), expected)
    predicted = {unit: sc.CostModel(plan.structure, unit).at(plan.sizes) for unit in counted(plan.structure)}
    assert counted(sc.trace(small, inputs)) == predicted


class ByKind(Tokens):
    def walk(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x, gain=2.0 if self.config.kinds[number] == "loud" and x.shape[1] > 8 else 1.0)
        return x


def test_places_and_rows_follow_the_blocks_that_stay() -> None:
    model = ByKind().eval()
    structure = sc.trace(model, INPUTS)
    plan = without(structure, "layers.0", "layers.1", "layers.2")
    small = sc.shrink(model, plan)
    assert (small.layers[0].number, small.config.kinds, len(model.layers)) == (0, ["loud"], 4)
    assert sc.verify(model, small, plan, torch.randn(2, 9, 3)).ok  # the kinds matter for long inputs alone


def test_names_of_a_sequential_stay() -> None:
    model = nn.Sequential()
    for name in ("first", "second", "third"):
        model.add_module(name, Layer(0))
    small = sc.shrink(model, without(sc.trace(model, torch.randn(2, 3, WIDTH)), "first"))
    assert [name for name, _ in small.named_children()] == ["second", "third"]


def test_zeros_cannot_say_it() -> None:
    model = Tokens().eval()
    plan = without(sc.trace(model, INPUTS), "layers.1")
    for refused in (lambda: structured_masks(model, plan), lambda: apply_plan(sc.make_prunable(model), plan)):
        with pytest.raises(PlanError, match=r"removes 1 blocks \(layers\.1"):
            refused()


def test_block_influence_is_one_minus_the_cosine() -> None:
    model, data = Tokens().eval(), [torch.randn(3, 6, 3), torch.randn(1, 6, 3)]
    structure = restrict(sc.trace(model, INPUTS), model, granularity="blocks")
    scores = sc.score(model, structure, criterion="block-influence", data=data)
    with torch.no_grad():
        x = model.inside(torch.cat(data))
        for number, layer in enumerate(model.layers):
            expected = 1 - F.cosine_similarity(x, layer(x), dim=-1).mean()
            assert scores.values[f"layers.{number}.block"] == pytest.approx([float(expected)], rel=1e-5)
            x = layer(x)
    with pytest.raises(ScoreError, match=r"scores no axis of .*asked for its channels; choose one"):
        sc.score(model, sc.trace(model, INPUTS), criterion="block-influence", data=data)


@pytest.mark.parametrize(
    "criterion", ["l1", "l2", "l1-fan-in", "l2-folded", "bn-scale", "fisher", "snip", "taylor-nni"]
)
def test_weights_score_their_block(criterion: str) -> None:
    """A block whose weights are the smallest goes first, under any criterion that looks at weights."""
    model, inputs = build_model("resnet20").eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        for parameter in model.layer2[1].parameters():
            parameter.mul_(1e-3)
    structure = restrict(sc.trace(model, inputs), model, granularity="blocks")
    scores = sc.score(model, structure, criterion=criterion, data=[inputs])
    assert len(scores.values) == 7
    assert min(scores.values, key=lambda axis: float(scores.values[axis][0])) == "layer2.1.block"


def test_uniform_keeps_the_most_important_blocks() -> None:
    model = Tokens().eval()
    structure = restrict(sc.trace(model, INPUTS), model, granularity="blocks")
    scores = sc.Scores("given", {f"layers.{n}.block": torch.tensor([s]).numpy() for n, s in enumerate([2.0, 4, 1, 3])})
    for allocator in ("uniform", "global", "adaptive"):
        for kept, gone in ((0.75, [2]), (0.5, [0, 2]), (0.3, [0, 2, 3])):
            plan = sc.allocate(structure, scores, {"channels": kept}, allocator=allocator, min_keep=3, round_to=4)
            assert [block.module for block in plan.removed_blocks] == [f"layers.{number}" for number in gone]
    everything = sc.allocate(structure, scores, {"param_count": 100})
    assert len(everything.removed_blocks) == 4
    with pytest.raises(BudgetError, match="nearest possible is param_count=77"):
        sc.allocate(structure, scores, {"param_count": 76})


@pytest.mark.parametrize("allocator", ["uniform", "global"])
@pytest.mark.parametrize("unit", ["params", "macs", "channels", "activations"])
def test_one_budget_for_channels_and_blocks_is_met_and_filled(allocator: str, unit: str) -> None:
    model, inputs = build_model("resnet20").eval(), (torch.randn(1, 3, 16, 16),)
    structure = restrict(sc.trace(model, inputs), model, granularity=["channels", "blocks"])
    cost = sc.CostModel(structure, {"activations": "activation_bytes"}.get(unit, unit))
    for share in (0.75, 0.4):
        scores = sc.score(model, structure, criterion="random", seed=int(share * 100))
        plan = sc.allocate(structure, scores, {unit: share}, allocator=allocator)
        assert cost.at(plan.sizes) <= share * cost(cost.full)
        for name, size in plan.sizes.items():
            if structure.axis[name].chosen and size < structure.sizes[name]:
                assert cost.at({**plan.sizes, name: size + 1}) > share * cost(cost.full)
        assert sc.verify(model, sc.shrink(model, plan), plan, inputs).ok


def test_channels_leave_with_their_block() -> None:
    model, inputs = build_model("resnet20"), example_inputs("resnet20")
    structure = restrict(sc.trace(model, inputs), model, granularity=["channels", "blocks"])
    cost = sc.CostModel(structure, "channels")
    assert cost.at(without(structure, "layer3.1").sizes) == cost(cost.full) - 64 - 1


def test_granularity_and_targets_must_both_hold() -> None:
    model, inputs = build_model("resnet20"), example_inputs("resnet20")
    structure = sc.trace(model, inputs)

    def chosen(**options: object) -> set[str]:
        return {axis.name for axis in restrict(structure, model, **options).axes if axis.chosen}  # type: ignore[arg-type]

    blocks = {block.axis for block in structure.blocks}
    assert chosen(granularity="blocks") == chosen(targets=["blocks"]) == blocks
    assert chosen(granularity="channels") == chosen()
    assert chosen(granularity=("channels", "blocks")) == chosen() | blocks
    assert chosen(granularity="blocks", targets=["layer3"]) == {"layer3.1.block", "layer3.2.block"}
    assert not chosen(targets=["layer3"]) & blocks
    assert chosen(granularity="blocks", ignore=["layer3.1.conv1", "layer2"]) == blocks - {
        "layer2.1.block", "layer2.2.block", "layer3.1.block"
    }  # fmt: skip
    with pytest.raises(SelectorError, match=r"unknown granularity 'layers'; .*channels, heads, .*blocks"):
        chosen(granularity="layers")
    with pytest.raises(SelectorError, match="no heads to cut; it has: blocks, channels"):
        chosen(granularity="heads")


def test_steps_and_curves_know_blocks() -> None:
    model, inputs = build_model("resnet20").eval(), (torch.randn(1, 3, 16, 16),)
    config = sc.PruneConfig(granularity=["channels", "blocks"])
    for unit in ("channels", "params"):
        results = prune_in_steps(model, inputs, budget={unit: 0.4}, steps=2, config=config)
        cost, last = sc.CostModel(results[0].structure, unit), results[-1]
        assert sc.CostModel(last.structure, unit).at(last.plan.sizes) <= 0.4 * cost(cost.full)
        assert all(result.verification is not None and result.verification.ok for result in results)
    structure = restrict(sc.trace(model, inputs), model, granularity="blocks")
    scores = sc.score(model, structure)
    curves = sensitivity_curves(model, structure, scores, lambda small: float(len(list(small.modules()))))
    assert list(curves.values()) == [[(1.0, 6.0)]] * 7
