"""Element masks: exact counts, ties, and zeros that stay zeros."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.data import ImageSet
from secateur.sparse import apply_masks_, keeping, magnitude_masks, prunable_weights, sparsity
from secateur.sparse.kernel import keep_largest
from secateur.spec import BudgetError, PlanError, ScoreError, SelectorError
from secateur.train import TrainConfig, fit


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def test_exactly_k_go_and_the_first_of_equals_stay() -> None:
    first, second = torch.tensor([[2.0, 1.0], [1.0, 3.0]]), torch.tensor([1.0, 1.0, 0.0])
    masks = keep_largest([first, second], 4)
    assert masks[0].tolist() == [[True, True], [False, True]]
    assert masks[1].tolist() == [False, False, False]


@pytest.mark.parametrize("remove", [0, 1, 7, 12])
def test_the_count_is_exact_where_all_scores_tie(remove: int) -> None:
    (mask,) = keep_largest([torch.ones(3, 4)], remove)
    assert mask.flatten().tolist() == [True] * (12 - remove) + [False] * remove


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 0.99])
def test_global_masks_remove_the_smallest_of_the_whole_network(share: float) -> None:
    model = network()
    masks = magnitude_masks(model, sparsity=share)
    weights = torch.cat([weight.detach().abs().flatten() for weight in prunable_weights(model).values()])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert int((~kept).sum()) == round(share * len(weights))
    if share > 0:
        assert weights[kept].min() >= weights[~kept].max()
    assert sparsity(apply_masks_(model, masks)) == round(share * len(weights)) / len(weights)


def test_layer_masks_remove_the_same_share_of_each_parameter() -> None:
    masks = magnitude_masks(network(), sparsity=0.5, scope="layer")
    assert {name: int((~mask).sum()) for name, mask in masks.items()} == {"0.weight": 18, "4.weight": 216}


def test_making_masks_changes_nothing_and_biases_are_left_alone() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masks = magnitude_masks(model, sparsity=0.9)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert set(masks) == {"0.weight", "4.weight"}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_does_not_bring_removed_weights_back(optimizer: str) -> None:
    model = network()
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    data = ImageSet(images, torch.arange(64) % 3, ("a", "b", "c"), (0.5,), (0.5,))
    config = TrainConfig(epochs=2, batch_size=16, learning_rate=0.05, weight_decay=0.1, optimizer=optimizer)  # type: ignore[arg-type]
    fit(model, data, config=config)
    masks = magnitude_masks(model, sparsity=0.7)
    before = apply_masks_(model, masks)[4].weight.detach().clone()
    zeros = sparsity(model)
    fit(model, data, config=config, after_step=keeping(model, masks))
    assert sparsity(model) == zeros
    assert not torch.equal(before, model[4].weight)
    assert bool((model[4].weight[~masks["4.weight"]] == 0).all())


def test_bad_requests_are_refused() -> None:
    model = network()
    with pytest.raises(BudgetError, match=r"\[0, 1\)"):
        magnitude_masks(model, sparsity=1.0)
    with pytest.raises(SelectorError, match="global or layer"):
        magnitude_masks(model, sparsity=0.5, scope="row")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"'0.weight' has a mask of \(2,\)"):
        apply_masks_(model, {"0.weight": torch.ones(2, dtype=torch.bool)})
    with torch.no_grad():
        model[4].weight[0, 0] = torch.nan
    with pytest.raises(ScoreError, match=r"'4\.weight'"):
        magnitude_masks(model, sparsity=0.5)
