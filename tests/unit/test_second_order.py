"""Second-order pruning of single weights: kernels against brute force and few-line references, laws of the whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.sparse import Pattern
from secateur.sparse.paused import PausedForward, Pausing
from secateur.sparse.reconstruction import METHODS, Reconstructed, reconstruct
from secateur.sparse.second_order import exact_obs, find_layers, refit, removal_costs, settling, sweep
from secateur.sparse.second_order.gauss_newton import gauss_newton_step
from secateur.sparse.second_order.moments import measure_moments
from secateur.sparse.second_order.outputs import Judge
from secateur.sparse.second_order.sketch import sketches

ELEMENT, TWO_OF_FOUR = Pattern("element"), Pattern("n:m", (2, 4))


def hessian(size: int, seed: int = 0) -> Tensor:
    x = torch.randn(3 * size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mixed = x @ torch.randn(size, size, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return mixed.T @ mixed / len(mixed) + 0.01 * torch.eye(size, dtype=torch.float64)


def values(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def error(h: Tensor, before: Tensor, after: Tensor) -> float:
    return float(((after - before) @ h * (after - before)).sum())


def test_cost_of_a_removal_is_the_error_after_the_best_refit() -> None:
    h, w = hessian(6), values(2, 6)
    costs = removal_costs(h[None], w, torch.ones(2, 6, dtype=torch.bool))
    for row in range(2):
        for column in range(6):
            kept = torch.ones(2, 6, dtype=torch.bool)
            kept[row, column] = False
            assert float(costs[row, column]) == pytest.approx(error(h, w, refit(h[None], w, kept)))


def test_refit_is_least_squares_on_the_support_of_each_row_of_each_group() -> None:
    h = torch.stack([hessian(5), hessian(5, seed=3)])
    w, kept = values(4, 5), torch.rand(4, 5, generator=torch.Generator().manual_seed(1)) < 0.6
    found = refit(h, w, kept)
    for row in range(4):
        own, s = h[row // 2], kept[row]
        assert torch.allclose(found[row, s], torch.linalg.solve(own[s][:, s], (own @ w[row])[s]))
        assert not found[row, ~s].any()


def test_exact_obs_removes_greedily_and_picks_rows_by_cost() -> None:
    h, w = hessian(5), values(3, 5)
    kept = torch.ones(3, 5, dtype=torch.bool)
    for _ in range(6):  # brute force: remove whatever leaves the least error in all, given what is gone
        candidates = []
        for place in kept.nonzero().tolist():
            trial = kept.clone()
            trial[tuple(place)] = False
            candidates.append((error(h, w, refit(h[None], w, trial)), trial))
        kept = min(candidates, key=lambda pair: pair[0])[1]
    assert torch.equal(exact_obs(h, w, 6), kept)


def test_exact_obs_is_near_the_best_of_all_masks() -> None:
    h, w = hessian(8), values(1, 8)
    best = min(
        error(h, w, refit(h[None], w, torch.tensor([[column not in gone for column in range(8)]])))
        for gone in combinations(range(8), 4)
    )
    assert error(h, w, refit(h[None], w, exact_obs(h, w, 4))) <= 1.5 * best


def test_sweep_agrees_with_the_published_loop() -> None:
    h, w = hessian(12), values(3, 12)
    found_mask, found = sweep(h, w, 0, runs=[(4, 2)] * 3)
    u, expected = torch.linalg.cholesky(torch.linalg.inv(h), upper=True), w.clone()
    for i in range(12):
        if i % 4 == 0:
            score = expected[:, i : i + 4] ** 2 / torch.diag(u)[i : i + 4] ** 2
            mask = torch.zeros(3, 12, dtype=torch.bool)
            mask[:, i : i + 4].scatter_(1, score.topk(2, largest=False).indices, value=True)
        q = torch.where(mask[:, i], 0.0, expected[:, i])
        expected[:, i:] -= ((expected[:, i] - q) / u[i, i])[:, None] @ u[i, i:][None]
        expected[:, i] = q
    assert torch.allclose(found, expected, atol=1e-9)
    assert torch.equal(found_mask, expected != 0)


def test_sweep_makes_up_for_what_it_removes() -> None:
    h, w = hessian(200), values(4, 200)
    kept, found = sweep(h, w, 400)
    assert int((~kept).sum()) == 400
    assert error(h, w, refit(h[None], w, kept)) <= error(h, w, found) < 0.5 * error(h, w, w * kept)


# Layers of any network.


class Odd(nn.Module):
    """Groups, strides, dilation, padding modes, a shared layer, one that is never called, a lookup table."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, (3, 1), stride=2, dilation=(2, 1), padding="valid", groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.line = nn.Conv1d(8, 8, 2)
        self.twice = nn.Linear(8, 8)
        self.idle = nn.Linear(8, 8)
        self.table = nn.Embedding(4, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.norm(self.first(x)))
        x = self.depthwise(self.grouped(x))
        x = self.line(x.flatten(2)).mean(2) + self.table(torch.zeros(len(x), dtype=torch.long))
        return self.last(self.twice(torch.relu(self.twice(input=x))))


@pytest.fixture
def odd() -> nn.Module:
    torch.manual_seed(0)
    model = Odd().eval()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(24, 4, 9, 9, generator=generator) for _ in range(12)]


def applied(model: nn.Module, found: Reconstructed) -> dict[str, Tensor]:
    return {**model.state_dict(), **found.weights}


@pytest.mark.parametrize("name", ["first", "grouped", "depthwise", "line", "twice"])
def test_columns_times_weight_is_the_layer(odd: nn.Module, images: list[Tensor], name: str) -> None:
    layer = find_layers(odd, (images[0],), [f"{name}.weight"])[f"{name}.weight"]
    seen: list[tuple[Tensor, Tensor]] = []
    module = odd.get_submodule(name)
    handle = module.register_forward_hook(
        lambda _, args, kwargs, y: seen.append((args[0] if args else kwargs["input"], y)), with_kwargs=True
    )
    odd(images[0])
    handle.remove()
    rows = layer.values()
    if module.bias is not None:
        rows[:, -1] = module.bias.detach()
    rows = rows.reshape(layer.groups, -1, rows.shape[1])
    for x, y in seen:
        assert torch.allclose(rows @ layer.columns(x), layer.outputs(y), atol=1e-5)


def test_a_constant_goes_where_it_changes_the_output_alike(odd: nn.Module, images: list[Tensor]) -> None:
    layers = find_layers(odd, (images[0],), ["first.weight", "last.weight", "idle.weight", "table.weight"])
    assert {name: layer.constant for name, layer in layers.items()} == {
        "first.weight": "norm.running_mean",
        "last.weight": "last.bias",
    }
    expected = nn.Sequential(odd.norm)(odd.first(images[0]) + 0.5)
    values = layers["first.weight"].values()
    values[:, -1] = 0.5
    layers["first.weight"].write_(odd, values)
    assert torch.allclose(odd.norm(odd.first(images[0])), expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pattern", [ELEMENT, TWO_OF_FOUR], ids=str)
def test_masks_are_exact_and_the_model_is_untouched(
    odd: nn.Module, images: list[Tensor], method: str, pattern: Pattern
) -> None:
    before = {name: tensor.clone() for name, tensor in odd.state_dict().items()}
    found = reconstruct(odd, images, sparsity=0.5, pattern=pattern, method=method)
    after = applied(odd, found)
    assert all(torch.equal(tensor, before[name]) for name, tensor in odd.state_dict().items())
    assert all(not after[name][~mask].any() for name, mask in found.masks.items())
    removed = sum(int((~mask).sum()) for mask in found.masks.values())
    if pattern == ELEMENT:
        assert removed == round(0.5 * sum(mask.numel() for mask in found.masks.values()))
    else:
        mask = found.masks["first.weight"].movedim(1, -1)
        assert (mask.reshape(-1, 4).sum(1) == 2).all()
    assert "idle.weight, table.weight" in found.notes[0]
    assert found.masks["idle.weight"].sum() == 32
    again = reconstruct(odd, images, sparsity=0.5, pattern=pattern, method=method)
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in found.weights.items())


def test_whole_network_loses_less_than_layer_by_layer_than_magnitude(odd: nn.Module, images: list[Tensor]) -> None:
    lost: dict[str, float] = {}
    with torch.no_grad():
        for method in METHODS:
            after = applied(odd, reconstruct(odd, images, sparsity=0.6, method=method))
            change = torch.func.functional_call(odd, after, (images[0],)) - odd(images[0])
            lost[method] = float(change.pow(2).mean())
    assert lost["second-order"] < lost["obc"] < lost["magnitude"]


def test_zeros_stay_and_shares_by_name_hold(odd: nn.Module, images: list[Tensor]) -> None:
    wanted = {"first.weight": 0.25, "last.weight": 0.75}
    found = reconstruct(odd, images, sparsity=wanted)
    assert {name: round(1 - float(mask.float().mean()), 6) for name, mask in found.masks.items()} == wanted
    odd.load_state_dict(applied(odd, found))
    more = reconstruct(odd, images, sparsity={"first.weight": 0.5})
    assert not more.masks["first.weight"][~found.masks["first.weight"]].any()


def test_moments_are_those_of_a_plain_matrix_product(images: list[Tensor]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(324, 3))
    layers = find_layers(model, (images[0],), ["1.weight"])
    data = [((batch,), None) for batch in images]
    found = measure_moments(model, layers, data, torch.Generator())["1.weight"][0, :-1, :-1]
    x = torch.cat(images).flatten(1).double()
    assert torch.allclose(found, x.T @ x / len(x), atol=1e-4)


def test_sketches_are_the_gauss_newton_matrix_and_the_gradient_in_expectation() -> None:
    torch.manual_seed(0)
    model, reference = nn.Linear(3, 4).requires_grad_(False), nn.Linear(3, 4).requires_grad_(False)
    x = torch.randn(40, 3) * torch.linspace(0.1, 8, 40)[:, None]  # the last are next to certain
    layers = find_layers(model, (x,), ["weight"])
    generator, drawn = torch.Generator().manual_seed(0), []
    for _ in range(300):
        drawn += list(sketches(model, reference, layers, [((x,), None)], generator))
    gradients = torch.cat([sketch.gradients["weight"][:, :, :-1] for sketch in drawn])
    missing = torch.cat([sketch.missing for sketch in drawn])
    found, wanted = model(x).softmax(-1), reference(x).softmax(-1)
    q = (found + wanted) / 2
    squares = torch.einsum("no,ni->oi", q * (1 - q), x**2) / 40
    assert torch.allclose(gradients.pow(2).mean(0), squares, rtol=0.1)
    towards = torch.einsum("no,ni->oi", wanted - found, x) / 40
    assert torch.allclose((gradients * missing[:, None, None]).mean(0), towards, atol=0.1 * float(towards.abs().max()))


def test_sketches_of_values_are_those_of_least_squares() -> None:
    """A network that returns maps: half of the squared difference, in units of the reference's variance."""
    torch.manual_seed(0)
    model, reference = (nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 2, 2))).requires_grad_(False) for _ in "ab")
    data = [((torch.randn(40, 3),), None)]
    layers = find_layers(model, data[0][0], ["0.weight"])
    generator, drawn = torch.Generator().manual_seed(0), []
    for _ in range(300):
        drawn += list(sketches(model, reference, layers, data, generator))
    gradients = torch.cat([sketch.gradients["0.weight"] * sketch.missing[:, None, None] for sketch in drawn])
    model[0].weight.requires_grad_()
    x = data[0][0][0]
    unit = reference(x).var(0, correction=0).mean()
    distance = (model(x) - reference(x)).square().mean() / 2 / unit
    assert Judge(reference, data)(model) == pytest.approx(float(distance.detach()), rel=1e-4)
    (wanted,) = torch.autograd.grad(-distance, [model[0].weight])
    assert torch.allclose(gradients.mean(0)[:, :3], wanted, atol=0.1 * float(wanted.abs().max()))


def test_layers_that_no_output_depends_on_count_for_nothing() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heard, self.idle = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"last": self.heard(x), "pooled": self.idle(x)}

    model, data = Idle().requires_grad_(False), [((torch.randn(8, 3),), None)]
    layers = find_layers(model, data[0][0], ["heard.weight", "idle.weight"])
    (found,) = sketches(model, copy.deepcopy(model), layers, data, torch.Generator().manual_seed(0))
    assert bool(found.gradients["heard.weight"].any())
    assert not bool(found.gradients["idle.weight"].any())


def test_whole_network_steps_help_and_those_that_harm_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 5))
    data = [torch.randn(256, 12) for _ in range(4)]

    def lost(step: Callable[..., dict[str, Tensor] | None]) -> float:
        monkeypatch.setattr(settling, "gauss_newton_step", step)
        sparse = copy.deepcopy(model)
        sparse.load_state_dict(applied(model, reconstruct(model, data, sparsity=0.7)))
        return Judge(model, [((torch.cat(data),), None)])(sparse)

    without = lost(lambda *_: None)
    assert lost(gauss_newton_step) < 0.95 * without
    assert lost(lambda _, kept, __: {name: 10.0 * mask for name, mask in kept.items()}) == without


# Layer by layer.


def test_layers_see_what_the_pruned_network_feeds_them() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(64, 8)
    found = reconstruct(model, [x[:32], x[32:]], sparsity=0.5, method="wanda")
    first = model[0].weight * wanda_mask(model[0].weight, x)
    hidden = torch.relu(x @ first.T + model[0].bias)
    assert torch.equal(found.masks["0.weight"], wanda_mask(model[0].weight, x))
    assert torch.equal(found.masks["2.weight"], wanda_mask(model[2].weight, hidden))


def wanda_mask(weight: Tensor, x: Tensor) -> Tensor:
    """The published few lines, at one half."""
    metric = weight.abs() * x.norm(dim=0)
    mask = torch.ones_like(weight, dtype=torch.bool)
    return mask.scatter(1, metric.sort(dim=1).indices[:, : weight.shape[1] // 2], value=False)


def test_an_error_in_a_paused_forward_comes_out_and_leaves_no_hook() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    forward = PausedForward(model, (torch.zeros(2, 5),))
    with Pausing({"0": model[0]}), pytest.raises(RuntimeError, match="cannot be multiplied"):
        forward.proceed()
        forward.proceed()
    forward.stop()
    assert not model[0]._forward_pre_hooks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "expected at least 0 and below 1"),
        ({"sparsity": {"nothing": 0.5}}, "nearest"),
        ({"sparsity": 0.5, "method": "magic"}, "it is one of: second-order"),
        ({"sparsity": 0.5, "pattern": Pattern("block", (4, 1))}, "element and N:M"),
        ({"sparsity": 0.5, "data": []}, "no batch"),
    ],
)
def test_bad_requests_are_named(options: dict, message: str) -> None:
    data = options.pop("data", [torch.randn(2, 8)])
    with pytest.raises(sc.SecateurError, match=message):
        reconstruct(nn.Linear(8, 8), data, **options)
