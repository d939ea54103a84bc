"""Criteria for single weights against independent computations, and allocators against their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sc
from secateur.data import ImageSet
from secateur.score.gradients import batches
from secateur.sparse import WEIGHT_CRITERIA, Allotment, Movement, Pattern, WeightQuestion, as_tensors
from secateur.sparse.allocation import WEIGHT_ALLOCATORS
from secateur.sparse.layout import layout_of
from secateur.sparse.masks import layouts, prunable_weights
from secateur.sparse.measuring import measure_weights
from secateur.train import TrainConfig, fit


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(6)
        self.linear = nn.Linear(6 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.tanh(self.norm(self.conv(x))).flatten(1))


@pytest.fixture
def model() -> Net:
    made = Net().double().eval()
    made.norm.running_mean.normal_()
    return made


@pytest.fixture
def data() -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(n, 2, 8, 8, dtype=torch.float64), torch.randint(0, 4, (n,))) for n in (5, 3)]


def scored(name: str, model: nn.Module, data: list[tuple[Tensor, Tensor]], sparsity: float = 0.5) -> dict[str, Tensor]:
    criterion = WEIGHT_CRITERIA.get(name)
    weights = {key: weight.detach() for key, weight in prunable_weights(model).items()}
    needs = frozenset(getattr(criterion, "needs", ()))
    read = tuple(batches(data))
    found = measure_weights(model, weights, read, needs) if needs - {"batches"} else None
    question = WeightQuestion(
        model, (data[0][0],), weights, layouts(model), read, sparsity, 0, Pattern("element"), found
    )
    return dict(criterion(question))


def sample_gradients(model: nn.Module, data: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """One backward per sample."""
    rows: dict[str, list[Tensor]] = {name: [] for name in prunable_weights(model)}
    for images, labels in data:
        for image, label in zip(images, labels, strict=True):
            model.zero_grad()
            F.cross_entropy(model(image[None]), label[None]).backward()
            for name, weight in prunable_weights(model).items():
                rows[name].append(weight.grad.clone())
    return {name: torch.stack(found) for name, found in rows.items()}


def test_gradient_criteria_are_those_of_one_backward_per_sample(model: Net, data: list[tuple[Tensor, Tensor]]) -> None:
    gradients = sample_gradients(model, data)
    for name, weight in prunable_weights(model).items():
        w = weight.detach()
        torch.testing.assert_close(scored("taylor", model, data)[name], ((gradients[name] * w) ** 2).mean(0))
        torch.testing.assert_close(scored("obd", model, data)[name], 0.5 * w**2 * (gradients[name] ** 2).mean(0))
        torch.testing.assert_close(scored("snip", model, data)[name], (gradients[name].mean(0) * w).abs())


def test_grasp_is_the_change_of_the_squared_gradient(model: Net, data: list[tuple[Tensor, Tensor]]) -> None:
    """Along shrinking one weight, d/dt of |g|^2 / 2 is minus w (H g), by finite differences."""
    images, labels = data[0]

    def half_squared_gradient() -> float:
        loss = F.cross_entropy(model(images) / 200.0, labels)
        found = torch.autograd.grad(loss, list(prunable_weights(model).values()))
        return 0.5 * sum(float((gradient**2).sum()) for gradient in found)

    scores = scored("grasp", model, data[:1])
    for name, place in (("conv.weight", (4, 0, 1, 2)), ("linear.weight", (2, 17))):
        weight = dict(model.named_parameters())[name]
        value, step = float(weight.detach()[place]), 1e-3
        found = []
        for factor in (1 + step, 1 - step):
            with torch.no_grad():
                weight[place] = value * factor
            found.append(half_squared_gradient())
        with torch.no_grad():
            weight[place] = value
        assert float(scores[name][place]) == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-4)


def test_synflow_of_one_round_is_the_sum_over_paths_and_keeps_every_layer_alive() -> None:
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))
    scores = scored("synflow", model, [(torch.randn(1, 3), torch.zeros(1, dtype=torch.long))], sparsity=0.0)
    first, second = (layer.weight.detach().double().abs() for layer in model)
    torch.testing.assert_close(scores["0.weight"], first * second.sum(0)[:, None])
    torch.testing.assert_close(scores["1.weight"], second * first.sum(1)[None, :])
    deep = nn.Sequential(*(nn.Linear(10, 10, bias=False) for _ in range(6)))
    result = sc.prune(
        deep, torch.randn(1, 10), granularity="element", budget={"sparsity": 0.98}, criterion="synflow",
        allocator="global", evaluate=lambda model: float(model(torch.ones(1, 10)).abs().sum() > 0),
    )  # fmt: skip
    assert result.after["accuracy"] == 1.0


def test_wanda_is_weight_times_input_norm_ranked_per_output(model: Net, data: list[tuple[Tensor, Tensor]]) -> None:
    scores = scored("wanda", model, data)
    images = torch.cat([images for images, _ in data])
    columns = F.unfold(images, 3, stride=2, padding=1).reshape(len(images), 2, 9, -1)
    norms = columns.square().sum((0, 3)).sqrt().reshape(2, 1, 3, 3).repeat_interleave(3, 0)
    torch.testing.assert_close(scores["conv.weight"], model.conv.weight.detach().abs() * norms)
    features = torch.tanh(model.norm(model.conv(images))).flatten(1).detach()
    expected = model.linear.weight.detach().abs() * features.norm(dim=0)
    torch.testing.assert_close(scores["linear.weight"], expected)
    result = sc.prune(model, images[:1], granularity="element", budget={"sparsity": 0.5}, criterion="wanda", data=data)
    mask = as_tensors(result.masks)["linear.weight"]
    assert mask.sum(1).tolist() == [48] * 4
    for kept, row in zip(mask, expected, strict=True):
        assert row[kept].min() >= row[~kept].max()


def test_wanda_knows_the_inputs_of_each_projection_of_an_attention() -> None:
    attention = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    query, other = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    weights = {name: weight.detach() for name, weight in prunable_weights(attention).items()}
    found = measure_weights(attention, weights, [((query, other, other), None)], frozenset({"inputs"})).of("inputs")
    norms = [x.double().square().sum((0, 1)).expand(4, 4) for x in (query, other, other)]
    torch.testing.assert_close(found["in_proj_weight"], torch.cat(norms))
    assert bool((found["out_proj.weight"] > 0).all())


def test_lamp_is_the_share_of_what_is_not_smaller() -> None:
    weight = torch.tensor([[3.0, -1.0], [2.0, 0.0]])
    owner = nn.Linear(2, 2, bias=False)
    owner.weight = nn.Parameter(weight)
    found = scored("lamp", owner, [(torch.ones(1, 2), torch.zeros(1, dtype=torch.long))])["weight"]
    torch.testing.assert_close(found, torch.tensor([[9 / 9, 1 / 14], [4 / 13, 0.0]], dtype=torch.float64))


def test_entropy_keeps_rare_values() -> None:
    owner = nn.Linear(8, 1, bias=False)
    owner.weight = nn.Parameter(torch.tensor([[0.01, 0.1, 0.19, 0.05, 0.15, 10.0, 5.0, -10.0]]))
    found = scored("entropy", owner, [(torch.ones(1, 8), torch.zeros(1, dtype=torch.long))])["weight"][0]
    assert found.argsort().tolist()[:5] == [0, 3, 1, 4, 2]  # the crowd of one bin first, small ones before large ones
    assert float(found[7]) == pytest.approx(-math.log(1 / 8) + 1 / 16)
    assert float(found[2]) == pytest.approx(-math.log(5 / 8) + 0.019 / 16)


def test_movement_adds_up_what_training_does() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(32) % 3, ("a", "b", "c"), (0.5,), (0.5,))
    expected = torch.zeros(3, 64)

    class Adding:
        def step(self, take: Callable[[], None]) -> None:
            expected.sub_(model[1].weight.detach() * model[1].weight.grad)
            take()

    with Movement(model) as movement:
        fit(model, data, config=TrainConfig(epochs=2, batch_size=16, momentum=0.0), methods=[Adding()])
    torch.testing.assert_close(movement.scores["1.weight"], expected)
    result = sc.prune(model, images[:1] / 255, granularity="element", budget={"sparsity": 0.5}, criterion=movement)
    kept = as_tensors(result.masks)["1.weight"]
    assert expected[kept].min() >= expected[~kept].max()
    with pytest.raises(sc.SecateurError, match="another model"):
        sc.prune(
            nn.Sequential(nn.Linear(64, 3)), torch.randn(1, 64), granularity="element", budget={"sparsity": 0.5},
            criterion=movement,
        )  # fmt: skip


# Allocators.


def allotment(shapes: dict[str, tuple[int, ...]], sparsity: float, **shares: float) -> Allotment:
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    places = {name: layout_of(nn.Conv2d(1, 1, 1), weight) for name, weight in weights.items()}
    total = sum(weight.numel() for weight in weights.values())
    scores = {name: weight.abs().flatten(1) for name, weight in weights.items()}
    limits = {name: weight.numel() - 1 for name, weight in weights.items()}
    return Allotment(weights, scores, places, Pattern("element"), limits, round(sparsity * total), shares)


def test_erk_keeps_by_sum_over_product_of_sizes_and_small_layers_dense() -> None:
    shapes = {"a": (16, 3, 3, 3), "b": (64, 64, 3, 3), "c": (128, 64, 3, 3), "d": (10, 128)}
    counts = WEIGHT_ALLOCATORS.get("erk")(allotment(shapes, 0.9))
    kept = {name: math.prod(shape) - counts[name] for name, shape in shapes.items()}
    assert sum(counts.values()) == round(0.9 * sum(math.prod(shape) for shape in shapes.values()))
    assert counts["a"] == counts["d"] == 0
    assert kept["b"] / kept["c"] == pytest.approx((64 + 64 + 6) / (128 + 64 + 6), rel=1e-3)


def test_adaptive_shares_are_kept_in_proportion_up_to_the_limit() -> None:
    shapes = {"a": (10, 100), "b": (10, 100), "c": (10, 100)}
    counts = WEIGHT_ALLOCATORS.get("adaptive")(allotment(shapes, 0.3, a=1.0, b=2.0, c=0.0))
    assert counts == {"a": 300, "b": 600, "c": 0}
    counts = WEIGHT_ALLOCATORS.get("adaptive")(allotment(shapes, 0.5, a=1.0, b=4.0, c=0.0))
    assert counts == {"a": 501, "b": 999, "c": 0}
    with pytest.raises(sc.SecateurError, match="cannot remove"):
        WEIGHT_ALLOCATORS.get("adaptive")(allotment(shapes, 0.9, a=1.0, b=2.0, c=0.0))


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_global_keeps_one_of_each_and_the_highest_of_all(share: float) -> None:
    given = allotment({"a": (10, 100), "b": (10, 10)}, share)
    given.scores["b"].mul_(1e-6)
    counts = WEIGHT_ALLOCATORS.get("global")(given)
    assert counts == {"a": given.remove - 99, "b": 99}
