"""torch.nn.utils.prune both ways: every step of its tutorial beside ours, masks in and out, channels of zeros."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from calling import secateur
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

import secateur as sc
from secateur.models import build_model
from secateur.sparse import as_tensors, masks_of, sparsity
from secateur.sparse.torch_prune import permanent, read_masks, sparsities, write_masks_
from secateur.sparse.zeros import plan_from_zeros
from secateur.spec import ModelError


class LeNet(nn.Module):
    """The network of the tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, int(x.nelement() / x.shape[0]))
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


IMAGE = torch.randn(1, 1, 32, 32)


@pytest.fixture
def models() -> tuple[LeNet, LeNet]:
    one, other = LeNet(), LeNet()
    other.load_state_dict(one.state_dict())
    return one, other


def ours(model: nn.Module, **options: object) -> dict[str, Tensor]:
    return as_tensors(sc.prune(model, IMAGE, **{"granularity": "element", **options}).masks)  # type: ignore[arg-type]


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(mask, theirs.get(name, torch.ones_like(mask))) for name, mask in ours.items())


def test_l1_unstructured(models: tuple[LeNet, LeNet]) -> None:
    theirs, own = models
    torch_prune.l1_unstructured(theirs.conv1, name="weight", amount=0.3)
    masks = ours(own, targets=["conv1"], budget={"sparsity": 0.3})
    assert same(masks, read_masks(theirs))
    assert int((~masks["conv1.weight"]).sum()) == 45


def test_random_unstructured_removes_as_many(models: tuple[LeNet, LeNet]) -> None:
    theirs, own = models
    torch_prune.random_unstructured(theirs.conv1, name="weight", amount=0.3)
    masks = ours(own, targets=["conv1"], budget={"sparsity": 0.3}, criterion="random")
    assert int(masks["conv1.weight"].sum()) == int(read_masks(theirs)["conv1.weight"].sum())


@pytest.mark.parametrize("order", [1, 2])
def test_ln_structured(models: tuple[LeNet, LeNet], order: int) -> None:
    theirs, own = models
    torch_prune.ln_structured(theirs.conv2, name="weight", amount=0.5, n=order, dim=0)
    masks = ours(own, granularity="row", targets=["conv2"], budget={"sparsity": 0.5}, criterion=f"l{order}")
    assert same(masks, read_masks(theirs))


def test_global_unstructured(models: tuple[LeNet, LeNet]) -> None:
    theirs, own = models
    layers = [(layer, "weight") for layer in (theirs.conv1, theirs.conv2, theirs.fc1, theirs.fc2, theirs.fc3)]
    torch_prune.global_unstructured(layers, pruning_method=torch_prune.L1Unstructured, amount=0.2)
    assert same(ours(own, budget={"sparsity": 0.2}, allocator="global"), read_masks(theirs))


def test_several_layers_with_amounts_of_their_own(models: tuple[LeNet, LeNet]) -> None:
    theirs, own = models
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            torch_prune.l1_unstructured(module, name="weight", amount=0.2)
        elif isinstance(module, nn.Linear):
            torch_prune.l1_unstructured(module, name="weight", amount=0.4)
    assert same(ours(own, allocator="fixed", shares={"Conv2d": 0.2, "Linear": 0.4}), read_masks(theirs))


def test_iterated(models: tuple[LeNet, LeNet]) -> None:
    """Their amounts are shares of what is left, ours of the whole."""
    theirs, own = models
    torch_prune.l1_unstructured(theirs.conv1, name="weight", amount=0.2)
    torch_prune.ln_structured(theirs.conv1, name="weight", amount=0.5, n=2, dim=0)
    first = sc.prune(own, IMAGE, granularity="element", targets=["conv1"], budget={"sparsity": 0.2})
    second = sc.prune(first.model, IMAGE, granularity="row", allocator="fixed", shares={"conv1": 0.5}, criterion="l2")
    assert same(as_tensors(second.masks), read_masks(theirs))


def test_remove_and_the_order_of_parameters(models: tuple[LeNet, LeNet]) -> None:
    theirs, own = models
    torch_prune.l1_unstructured(theirs.conv1, name="weight", amount=0.3)
    torch_prune.l1_unstructured(theirs.conv1, name="bias", amount=3)
    expected = theirs(IMAGE)
    plain = permanent(theirs)
    assert list(plain.state_dict()) == list(own.state_dict())
    assert torch.equal(plain(IMAGE), expected)
    assert set(read_masks(theirs)) == set(as_tensors(masks_of(plain))) == {"conv1.weight", "conv1.bias"}
    assert sparsities(theirs) == sparsities(plain)
    assert sparsities(plain)["conv1.weight"] == pytest.approx(0.3)


def test_a_model_that_carries_masks_is_pruned_further_and_saved(models: tuple[LeNet, LeNet], tmp_path: Path) -> None:
    theirs, own = models
    torch_prune.random_unstructured(theirs.fc1, name="weight", amount=0.5)
    result = sc.prune(theirs, IMAGE, granularity="element", budget={"sparsity": 0.6}, allocator="global")
    removed_before = ~read_masks(theirs)["fc1.weight"]
    assert not bool((as_tensors(result.masks)["fc1.weight"] & removed_before).any())
    assert hasattr(theirs.fc1, "weight_orig")
    result.save(tmp_path / "saved")
    assert sparsity(sc.load(tmp_path / "saved", own)) == result.after["sparsity"]


def test_a_state_dict_with_masks_is_read_by_the_command_line(tmp_path: Path) -> None:
    model = build_model("lenet5")
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            torch_prune.l1_unstructured(module, "weight", amount=0.3)
    save_file(model.state_dict(), tmp_path / "masked.safetensors")
    weights = ("lenet5", "--weights", tmp_path / "masked.safetensors")
    found = secateur(
        "prune", *weights, "--granularity", "element", "--budget", "sparsity=0.5", "--out", tmp_path / "o", "--json"
    )
    assert found.code == 0, found.err
    assert found.record["before"]["sparsity"] == pytest.approx(0.3, abs=1e-3)
    assert found.record["after"]["sparsity"] == pytest.approx(0.5, abs=1e-4)
    loaded = sc.load(tmp_path / "o")
    assert sparsity(loaded) == found.record["after"]["sparsity"]
    assert torch.equal(permanent(model).state_dict()["fc1.weight"] == 0, read_masks(model)["fc1.weight"].logical_not())


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    state = build_model("lenet5").state_dict()
    state["fc1.weight_orig"] = state.pop("fc1.weight")
    state["fc1.weight_mask"] = torch.ones(3)
    save_file(state, tmp_path / "broken.safetensors")
    found = secateur("evaluate", "lenet5", "--weights", tmp_path / "broken.safetensors", "--data", "digits")
    assert found.code == 2
    assert "fc1.weight_orig" in found.err


def test_masks_are_written_as_theirs(models: tuple[LeNet, LeNet]) -> None:
    theirs, own = models
    result = sc.prune(own, IMAGE, granularity="2:4")
    write_masks_(theirs, as_tensors(result.masks))
    assert same(as_tensors(result.masks), read_masks(theirs))
    assert torch.equal(theirs(IMAGE), result.model(IMAGE))
    assert all(torch_prune.is_pruned(layer) for layer in theirs.children())


def test_channels_of_zeros_leave_for_good(models: tuple[LeNet, LeNet]) -> None:
    model, _ = models
    for name in ("weight", "bias"):
        mask = torch.ones_like(getattr(model.conv2, name))
        mask[[1, 5, 6]] = 0
        torch_prune.custom_from_mask(model.conv2, name, mask)
    torch_prune.ln_structured(model.conv1, "weight", amount=2, n=2, dim=0)  # its biases are alive
    torch_prune.ln_structured(model.fc3, "weight", amount=7, n=2, dim=1)
    plain = permanent(model)
    plan = plan_from_zeros(plain, sc.trace(plain, IMAGE), IMAGE)
    small = sc.shrink(plain, plan)
    assert (small.conv1.out_channels, small.conv2.out_channels, small.fc3.in_features) == (6, 13, 77)
    torch.testing.assert_close(small(IMAGE), model(IMAGE))


def test_a_dead_channel_under_a_batchnorm_leaves_and_one_with_a_shift_stays() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.Flatten()).eval()
    with torch.no_grad():
        model[1].running_mean.normal_()
        model[1].weight[:3] = 0
        model[1].bias[:2] = 0
        model[1].bias[2] = 1.0
        model[0].weight[5] = 0  # what the norm makes of it is not zero
    image = torch.randn(2, 1, 8, 8)
    plan = plan_from_zeros(model, sc.trace(model, image), image)
    small = sc.shrink(model, plan)
    assert small[0].out_channels == 4
    torch.testing.assert_close(small(image), model(image))


def test_what_a_norm_over_channels_would_notice_stays() -> None:
    model = nn.Sequential(nn.Linear(8, 6, bias=False), nn.LayerNorm(6), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        model[0].weight[2] = 0
        model[1].weight[2] = model[1].bias[2] = 0
    x = torch.randn(2, 8)
    assert plan_from_zeros(model, sc.trace(model, x), x).kept == {}


def test_a_broken_state_dict_names_its_tensor() -> None:
    from secateur.models.weights import made_permanent

    with pytest.raises(ModelError, match=r"a\.weight_orig"):
        made_permanent({"a.weight_orig": torch.ones(2, 2), "a.weight_mask": torch.ones(3)})
    plain, masks = made_permanent({"a.weight_orig": torch.ones(2), "a.weight_mask": torch.tensor([0.0, 1.0])})
    assert plain["a.weight"].tolist() == [0, 1]
    assert masks["a.weight"].tolist() == [False, True]
