"""Single weights: patterns hold, counts are exact, zeros are where the masks say, and stay there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from calling import secateur
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sc
from secateur.data import ImageSet
from secateur.sparse import (
    WEIGHT_CRITERIA,
    Pattern,
    apply_masks_,
    as_tensors,
    keeping,
    masks_of,
    prunable_weights,
    select,
    sparsity,
    verify_masks,
)
from secateur.sparse.layout import layout_of
from secateur.spec import BudgetError, PlanError, ScoreError, SecateurError, SelectorError, StoreError
from secateur.train import TrainConfig, fit

PATTERNS = ("element", "2:4", "1:3", "block:4x2", "kernel", "row", "column")
IMAGE = torch.randn(2, 1, 8, 8)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


class EveryKind(nn.Module):
    """A lookup table, an attention, convolutions of one to three dimensions, a transposed one, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.grouped = nn.Conv1d(16, 12, 3, groups=2, padding=1)
        self.up = nn.ConvTranspose1d(12, 8, 2)
        self.plane = nn.Conv2d(8, 8, (1, 3))
        self.volume = nn.Conv3d(8, 6, (1, 1, 2))
        self.linear = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        x = x + self.attention(x, x, x)[0]
        x = torch.relu(self.up(torch.relu(self.grouped(x.transpose(1, 2)))))
        x = torch.relu(self.plane(x[:, :, None]))
        return self.linear(self.volume(x[:, :, None]).mean((2, 3, 4)))


def tokens(count: int = 2) -> Tensor:
    return torch.randint(0, 11, (count, 9))


def batches() -> list[tuple[Tensor, Tensor]]:
    return [(tokens(5), torch.randint(0, 5, (5,))) for _ in range(2)]


def share_of(pattern: str) -> dict[str, float] | None:
    return None if ":" in pattern and pattern[0].isdigit() else {"sparsity": 0.6}


# Selection.


def by_sorting(scores: list[Tensor], remove: int) -> Tensor:
    flat = torch.cat([score.flatten() for score in scores])
    keep = torch.ones(len(flat), dtype=torch.bool)
    keep[flat.argsort(descending=True, stable=True)[len(flat) - remove :]] = False
    return keep


@pytest.mark.parametrize("few_values", [False, True], ids=["all differ", "many tie"])
def test_selection_is_what_sorting_gives(few_values: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "SAMPLE", 100)
    monkeypatch.setattr(select, "PIECE", 333)
    for size in (1, 99, 101, 3000):
        values = torch.randint(0, 4, (size,)).float() if few_values else torch.randn(size)
        scores = list(values.split(max(1, size // 3)))
        for remove in {0, 1, size // 3, size - 1, size}:
            found = torch.cat([mask.flatten() for mask in select.keep_highest(scores, remove)])
            assert torch.equal(found, by_sorting(scores, remove))


def test_infinite_scores_have_their_place_and_nan_is_refused() -> None:
    (mask,) = select.keep_highest([torch.tensor([torch.inf, -torch.inf, 1.0, -torch.inf])], 2)
    assert mask.tolist() == [True, False, True, False]
    with pytest.raises(ScoreError, match="NaN"):
        select.keep_highest([torch.tensor([1.0, torch.nan])], 1)


# Patterns.


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([(), (1,), (3,), (2, 3)]), st.integers(2, 5), st.data())
def test_n_of_m_stay_in_each_group_of_consecutive_inputs(
    outputs: int, inputs: int, kernel: tuple[int, ...], of: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, of - 1))
    weight = torch.randn(outputs, inputs, *kernel)
    module: nn.Module = nn.Linear(1, 1) if not kernel else nn.Conv1d(1, 1, 1)
    mask = Pattern.parse(f"{kept}:{of}").keep_in_groups(weight.abs(), layout_of(module, weight))
    for start in range(0, inputs, of):
        width = min(of, inputs - start)
        group = mask[:, start : start + width]
        expected = -(-kept * width // of)
        assert bool((group.sum(1) == expected).all())
        stays = weight[:, start : start + width].abs()
        largest_gone = torch.where(group, -1.0, stays).amax(1)
        assert bool((torch.where(group, stays, torch.inf).amin(1) >= largest_gone).all())


@pytest.mark.parametrize("pattern", ["block:2x3", "kernel", "row", "column"])
def test_blocks_leave_whole(pattern: str) -> None:
    result = sc.prune(network(), IMAGE, granularity=pattern, budget={"sparsity": 0.5}, allocator="global")
    for name, mask in as_tensors(result.masks).items():
        rows, columns = Pattern.parse(pattern).block(layout_of(nn.Conv2d(1, 1, 1), mask))
        matrix = mask.flatten(1)
        for top in range(0, matrix.shape[0], rows):
            for left in range(0, matrix.shape[1], columns):
                assert len(matrix[top : top + rows, left : left + columns].unique()) == 1, name


def test_a_transposed_convolution_has_its_inputs_first() -> None:
    mask = as_tensors(sc.prune(EveryKind(), tokens(), granularity="2:4").masks)["up.weight"]
    assert bool((mask.reshape(3, 4, 8, 2).sum(1) == 2).all())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5:4", "N <= M|N < M"),
        ("4:4", "N < M"),
        ("0:4", "1 <= N"),
        ("block:0x2", "at least one row"),
        ("block:2", "expected element"),
    ],
)
def test_patterns_that_make_no_sense_are_refused(text: str, says: str) -> None:
    with pytest.raises(SelectorError, match=says):
        sc.prune(network(), IMAGE, granularity=text, budget={"sparsity": 0.5})


# Counts and proofs.


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("allocator", ["uniform", "global", "erk", "adaptive", "row"])
def test_single_weights_go_in_exactly_the_number_asked_for(share: float, allocator: str) -> None:
    result = sc.prune(network(), IMAGE, granularity="element", budget={"sparsity": share}, allocator=allocator)
    assert round(result.after["sparsity"] * 468) == round(share * 468)
    assert all(bool(mask.any()) for mask in as_tensors(result.masks).values())


@pytest.mark.parametrize("pattern", PATTERNS)
def test_zeros_are_where_the_masks_say_after_save_and_load(pattern: str, tmp_path: Path) -> None:
    model, x = EveryKind(), tokens()
    result = sc.prune(model, x, granularity=pattern, budget=share_of(pattern))
    assert result.verification is not None
    assert result.verification.ok
    result.save(tmp_path / "saved")
    loaded = sc.load(tmp_path / "saved", EveryKind())
    masks = as_tensors(masks_of(loaded))
    zeros = sum(int((weight == 0).sum()) for weight in prunable_weights(loaded).values())
    removed = sum(int((~mask).sum()) for mask in masks.values())
    assert zeros == removed > 0
    assert result.after["sparsity"] == zeros / sum(weight.numel() for weight in prunable_weights(loaded).values())
    assert all(torch.equal(mask, as_tensors(result.masks)[name]) for name, mask in masks.items())
    for (_, saved), (_, made) in zip(loaded.state_dict().items(), result.model.state_dict().items(), strict=True):
        assert torch.equal(saved, made)


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("allocator", ["uniform", "global"])
@pytest.mark.parametrize("pattern", ["block:4x2", "kernel", "row", "column"])
def test_of_what_leaves_whole_the_fewest_go_that_reach_the_share(pattern: str, allocator: str, share: float) -> None:
    model = network()
    result = sc.prune(model, IMAGE, granularity=pattern, budget={"sparsity": share}, allocator=allocator)
    largest = max(
        int(Pattern.parse(pattern).unit_sizes(layout_of(nn.Conv2d(1, 1, 1), weight)).max())
        for weight in prunable_weights(model).values()
    )
    gone = round(result.after["sparsity"] * 468)
    assert round(share * 468) <= gone < round(share * 468) + largest


def test_the_proof_sees_a_weight_that_is_not_zero() -> None:
    model = network().eval()
    result = sc.prune(model, IMAGE, granularity="element", budget={"sparsity": 0.5})
    masks = as_tensors(result.masks)
    weight = dict(result.model.named_parameters())["4.weight"]
    with torch.no_grad():
        weight[~masks["4.weight"]] = 1.0
    found = verify_masks(model, result.model, masks, (IMAGE,))
    assert not found.ok
    assert "4.weight: 216 removed weights are not zero" in found.detail


def test_a_second_pruning_goes_on_where_the_first_stopped() -> None:
    first = sc.prune(network(), IMAGE, granularity="element", budget={"sparsity": 0.5}, criterion="random", seed=1)
    second = sc.prune(first.model, IMAGE, granularity="element", budget={"sparsity": 0.8}, criterion="random", seed=2)
    for name, kept in as_tensors(first.masks).items():
        assert not bool((as_tensors(second.masks)[name] & ~kept).any())
    assert round(second.after["sparsity"] * 468) == round(0.8 * 468)


def test_channels_of_a_sparse_network_can_be_cut_and_its_masks_follow(tmp_path: Path) -> None:
    sparse = sc.prune(network(), IMAGE, granularity="element", budget={"sparsity": 0.5})
    small = sc.prune(sparse.model, IMAGE, budget={"channels": 0.5})
    small.save(tmp_path / "small")
    loaded = sc.load(tmp_path / "small", network())
    assert {name: mask.shape for name, mask in as_tensors(masks_of(loaded)).items()} == {
        "0.weight": (2, 1, 3, 3),
        "4.weight": (3, 72),
    }


def test_a_shared_weight_counts_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(11, 16)
            self.head = nn.Linear(16, 11, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embedding(x).mean(1))

    result = sc.prune(Tied(), tokens(), granularity="element", budget={"sparsity": 0.5})
    assert list(as_tensors(result.masks)) == ["embedding.weight"]
    assert result.after["sparsity"] == 0.5
    assert result.model.head.weight is result.model.embedding.weight


# Requests.


def test_selectors_and_shares_say_which_weights_and_how_much() -> None:
    def removed(**options: object) -> dict[str, int]:
        masks = as_tensors(sc.prune(network(), IMAGE, granularity="element", **options).masks)  # type: ignore[arg-type]
        return {name: int((~mask).sum()) for name, mask in masks.items()}

    assert removed(budget={"sparsity": 0.5}, ignore=["first"]) == {"4.weight": 216}
    assert removed(budget={"sparsity": 0.5}, targets=[nn.Conv2d]) == {"0.weight": 18}
    assert removed(allocator="fixed", shares={"Conv2d": 0.25, "4": 0.5}) == {"0.weight": 9, "4.weight": 216}
    model = network()
    weight = model[4].weight.detach()
    found = as_tensors(sc.prune(model, IMAGE, granularity="element", allocator="sigma", shares={"4": 0.7}).masks)
    assert torch.equal(found["4.weight"], weight.abs() > 0.7 * weight.std())
    found = as_tensors(sc.prune(model, IMAGE, granularity="element", allocator="threshold", shares={"4": 0.02}).masks)
    assert torch.equal(found["4.weight"], weight.abs() > 0.02)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"budget": {"sparsity": 1.0}}, BudgetError, r"\[0, 1\)"),
        ({"budget": {"sparsity": -0.1}}, BudgetError, r"\[0, 1\)"),
        ({"budget": {"sparsity": 0.999}}, BudgetError, "nearest possible is sparsity=0.99"),
        ({"budget": {"macs": 0.5}}, BudgetError, "give sparsity"),
        ({}, BudgetError, "no budget given"),
        ({"granularity": "2:4", "budget": {"sparsity": 0.9}}, BudgetError, "drop the budget"),
        ({"granularity": ["element", "channels"], "budget": {"sparsity": 0.5}}, SelectorError, "stands alone"),
        ({"budget": {"sparsity": 0.5}, "ignore": ["conv9"]}, SelectorError, "nearest"),
        ({"budget": {"sparsity": 0.5}, "targets": ["4"], "ignore": ["4"]}, BudgetError, "no weight"),
        ({"budget": {"sparsity": 0.5}, "round_to": 8}, SecateurError, "whole channels"),
        ({"budget": {"sparsity": 0.5}, "criterion": "taylor"}, ScoreError, "looks at data"),
        ({"budget": {"sparsity": 0.5}, "min_keep": 0}, BudgetError, "min_keep"),
        ({"budget": {"sparsity": 0.9}, "max_remove_ratio": 0.5}, BudgetError, "sparsity=0.5"),
        ({"allocator": "fixed"}, BudgetError, "needs shares"),
        ({"allocator": "fixed", "shares": {"4": 0.5}, "budget": {"sparsity": 0.5}}, BudgetError, "drop the budget"),
        ({"allocator": "fixed", "shares": {"4": -0.5}}, BudgetError, "at least 0"),
        ({"allocator": "row", "granularity": "kernel", "budget": {"sparsity": 0.5}}, BudgetError, "single weights"),
    ],
)
def test_bad_requests_are_refused(options: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        sc.prune(network(), IMAGE, **{"granularity": "element", **options})  # type: ignore[arg-type]


def test_a_tensor_of_one_weight_keeps_it() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Linear(1, 1))
    for allocator in ("uniform", "global"):
        result = sc.prune(model, IMAGE, granularity="element", budget={"sparsity": 0.9}, allocator=allocator)
        assert bool(as_tensors(result.masks)["2.weight"].all())


def test_weights_that_are_not_finite_and_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = network()
    with pytest.raises(PlanError, match=r"'0.weight' has a mask of \(2,\)"):
        apply_masks_(model, {"0.weight": torch.ones(2, dtype=torch.bool)})
    result = sc.prune(model, IMAGE, granularity="element", budget={"sparsity": 0.5})
    with torch.no_grad():
        model[4].weight[0, 0] = torch.nan
        result.model[4].weight.fill_(1.0)
    with pytest.raises(ScoreError, match=r"'4\.weight'"):
        sc.prune(model, IMAGE, granularity="element", budget={"sparsity": 0.5})
    with pytest.raises(StoreError, match="not zero"):
        result.save(tmp_path / "undone")


def test_the_given_model_stays_as_it_is() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sc.prune(model, IMAGE, granularity="element", budget={"sparsity": 0.9}, criterion="synflow")
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# Training.


@pytest.mark.parametrize("kind", ["momentum", "nesterov", "adam", "adamw"])
def test_each_step_is_that_of_a_network_without_the_removed_weights(kind: str) -> None:
    """Beside an update written out in double precision for the weights that stay."""
    weight = nn.Parameter(torch.randn(6, 5, dtype=torch.float64))
    owner = nn.Module()
    owner.weight = weight
    mask = torch.rand(6, 5) > 0.5
    optimizer = {
        "momentum": lambda: torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.1),
        "nesterov": lambda: torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
        "adam": lambda: torch.optim.Adam([weight], lr=0.1, weight_decay=0.1),
        "adamw": lambda: torch.optim.AdamW([weight], lr=0.1, weight_decay=0.1),
    }[kind]()
    weight.grad = torch.randn_like(weight)
    optimizer.step()  # before the pruning: what the optimizer remembers is not zero
    end = keeping(owner, {"weight": mask}, optimizer)
    state = {key: value.clone() for key, value in optimizer.state[weight].items() if isinstance(value, Tensor)}
    expected = weight.detach()[mask].clone()
    for step in range(2, 5):
        gradient = torch.randn_like(weight)
        weight.grad = gradient.clone()
        optimizer.step()
        expected, state = _updated(kind, expected, gradient[mask], state, mask, step)
        torch.testing.assert_close(weight.detach()[mask], expected)
        held = [weight.detach(), weight.grad, *(v for v in optimizer.state[weight].values() if v.shape == weight.shape)]
        assert len(held) >= 3
        assert not any(bool(tensor[~mask].any()) for tensor in held)
    end()
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert bool(weight.detach()[~mask].all())


def _updated(
    kind: str, weight: Tensor, gradient: Tensor, state: dict[str, Tensor], mask: Tensor, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    def of_kept(name: str) -> Tensor:
        return state[name][mask] if state[name].shape == mask.shape else state[name]

    if kind in ("momentum", "nesterov"):
        gradient = gradient + 0.1 * weight
        buffer = 0.9 * of_kept("momentum_buffer") + gradient
        move = gradient + 0.9 * buffer if kind == "nesterov" else buffer
        return weight - 0.1 * move, {"momentum_buffer": buffer}
    if kind == "adamw":
        weight = weight * (1 - 0.1 * 0.1)
    else:
        gradient = gradient + 0.1 * weight
    first = 0.9 * of_kept("exp_avg") + 0.1 * gradient
    second = 0.999 * of_kept("exp_avg_sq") + 0.001 * gradient**2
    root = (second / (1 - 0.999**step)).sqrt() + 1e-8
    return weight - 0.1 * first / (1 - 0.9**step) / root, {"exp_avg": first, "exp_avg_sq": second}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_does_not_bring_removed_weights_back(optimizer: str) -> None:
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(64) % 3, ("a", "b", "c"), (0.5,), (0.5,))
    config = TrainConfig(epochs=2, batch_size=16, learning_rate=0.05, weight_decay=0.1, optimizer=optimizer)  # type: ignore[arg-type]
    result = sc.prune(network(), IMAGE, granularity="element", budget={"sparsity": 0.7})
    before = result.model[4].weight.detach().clone()
    fit(result.model, data, config=config, masks=as_tensors(result.masks))
    assert sparsity(result.model) == result.after["sparsity"]
    assert not torch.equal(before, result.model[4].weight)


# Criteria run on every kind of layer; their numbers are in test_weight_criteria.py.


@pytest.mark.parametrize("criterion", sorted(dict(WEIGHT_CRITERIA.describe())))
def test_every_criterion_prunes_every_kind_of_layer(criterion: str) -> None:
    model = EveryKind()
    result = sc.prune(
        model, tokens(), granularity="element", budget={"sparsity": 0.5}, criterion=criterion, data=batches()
    )
    assert result.verification is not None
    assert result.verification.ok
    masked, whole = as_tensors(result.masks), " ".join(result.notes)
    assert all(name in masked or name in whole for name in prunable_weights(model))
    pruned = sum(mask.numel() for mask in masked.values())
    assert sum(int((~mask).sum()) for mask in masked.values()) == round(0.5 * pruned)


# Methods that also change the weights that stay.


def error_of(result: sc.PruneResult, model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((result.model.eval()(x) - model(x)).square().mean())


@pytest.mark.parametrize("pattern", ["element", "2:4"])
@pytest.mark.parametrize("method", [{"recover": "second-order"}, {"criterion": "sparsegpt"}, {"criterion": "obc"}])
def test_new_values_of_what_stays_make_up_for_what_goes(method: dict[str, str], pattern: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)).eval()
    x = torch.randn(64, 1, 1, 8).expand(64, 1, 8, 8) + 0.1 * torch.randn(64, 1, 8, 8)
    request = {"granularity": pattern, "budget": share_of(pattern), "data": [x]}
    plain, updated = sc.prune(model, x[:2], **request), sc.prune(model, x[:2], **request, **method)
    assert updated.verification is not None
    assert updated.verification.ok
    assert updated.after["sparsity"] == pytest.approx(plain.after["sparsity"], abs=1e-3)
    assert error_of(updated, model, x) < 0.5 * error_of(plain, model, x)
    updated.save(tmp_path / "saved")
    loaded = sc.load(tmp_path / "saved", nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)))
    assert sparsity(loaded) == updated.after["sparsity"]
    assert torch.equal(loaded(x), updated.model.eval()(x))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"recover": "second-order"}, "looks at data"),
        ({"recover": "magic"}, "unknown recover"),
        ({"recover": "second-order", "criterion": "wanda"}, "drop the criterion"),
        ({"criterion": "sparsegpt", "allocator": "global", "data": [IMAGE]}, "only second-order weighs layers"),
        ({"recover": "second-order", "granularity": "row", "data": [IMAGE]}, "element and N:M"),
        ({"recover": "second-order", "granularity": (), "budget": {"channels": 0.5}}, "single weights"),
    ],
)
def test_bad_requests_for_new_values_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(SecateurError, match=says):
        sc.prune(network(), IMAGE, **{"granularity": "element", "budget": {"sparsity": 0.5}, **options})  # type: ignore[arg-type]


def test_the_command_line_prunes_with_new_values_and_verifies(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    assert secateur("train", "lenet300", "--data", "digits", "--max-steps", 2, "--out", base).code == 0
    request = ("prune", base, "--data", "digits", "--calibration", 32, "--granularity", "element", "--json")
    found = secateur(*request, "--budget", "sparsity=0.5", "--criterion", "sparsegpt", "--out", out)
    assert found.code == 0, found.err
    assert found.record["after"]["sparsity"] == pytest.approx(0.5, abs=1e-4)
    checked = secateur("verify", out, "--original", base, "--json")
    assert (checked.code, checked.record["sparsity"]) == (0, found.record["after"]["sparsity"])
    assert not checked.record["weights_equal"]
    plain = secateur(*request, "--budget", "sparsity=0.5", "--out", out)
    assert plain.code == 0
    assert secateur("verify", out, "--original", base, "--json").record["weights_equal"]
