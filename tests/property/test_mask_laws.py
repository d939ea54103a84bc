"""Laws of element masks, on random networks and every pattern."""

from __future__ import annotations

from random import Random

import pytest
import torch

from secateur.pipeline import prune
from secateur.sparse import Pattern, as_tensors, masks_of, prunable_weights, sparsity
from secateur.sparse.masks import layouts
from secateur.spec import BudgetError
from secateur.store import load_into, save_folder
from secateur.testing import random_network

PATTERNS = ("element", "2:4", "3:5", "block:3x2", "kernel", "row", "column")


@pytest.mark.parametrize("seed", range(60))
def test_masks_hold_their_laws(seed, tmp_path):
    rng = Random(seed)
    network, pattern = random_network(seed), Pattern.parse(PATTERNS[seed % len(PATTERNS)])
    options = {"granularity": str(pattern), "allocator": rng.choice(["uniform", "global", "erk"])}
    share = None if pattern.keep_per_group else rng.choice([0.2, 0.5, 0.7])
    budget = None if share is None else {"sparsity": share}
    try:
        result = prune(network.model, network.inputs, budget=budget, **options)
    except BudgetError as refused:
        assert not pattern.leaves_single, network.name
        assert "weights too few" in str(refused) or "nearest" in str(refused)
        return
    assert result.verification.ok, f"{network.name}: {result.verification}"
    masks, weights, places = as_tensors(result.masks), prunable_weights(network.model), layouts(network.model)
    for name, mask in masks.items():
        _assert_pattern(pattern, mask, places[name], weights[name], f"{network.name}: {name}")
    gone = sum(int((~mask).sum()) for mask in masks.values())
    total = sum(mask.numel() for mask in masks.values())
    if pattern.kind == "element":
        assert gone == round(share * total)
    save_folder(result.model, tmp_path / "saved")
    loaded = load_into(tmp_path / "saved", random_network(seed).model)
    assert sparsity(loaded) == sparsity(result.model) == result.after["sparsity"]
    assert all(torch.equal(mask, as_tensors(masks_of(loaded))[name]) for name, mask in masks.items())
    own = dict(result.model.named_parameters())
    assert all(torch.equal(parameter, own[name]) for name, parameter in loaded.named_parameters())


def _assert_pattern(pattern, mask, layout, weight, where):
    matrix = layout.matrix(mask)
    assert torch.equal(layout.tensor(matrix), mask), where
    if pattern.keep_per_group is None:
        units = pattern.unit_scores(mask.float(), layout)
        assert bool(((units == 0) | (units == 1)).all()), where
        assert bool(mask.any()), where
        return
    kept, of = pattern.keep_per_group
    groups = matrix.reshape(layout.outputs, layout.inputs, layout.kernel)
    for start in range(0, layout.inputs, of):
        width = min(of, layout.inputs - start)
        counts = groups[:, start : start + width].sum(1)
        assert bool((counts == -(-kept * width // of)).all()), where
    assert weight.shape == mask.shape, where


@pytest.mark.parametrize("seed", range(12))
def test_a_higher_sparsity_removes_all_that_a_lower_one_does(seed):
    network = random_network(seed)
    before = None
    for share in (0.2, 0.5, 0.8):
        result = prune(
            network.model, network.inputs, granularity="element", allocator="global", budget={"sparsity": share}
        )
        masks = as_tensors(result.masks)
        if before is not None:
            assert not any(bool((masks[name] & ~before[name]).any()) for name in masks), network.name
        before = masks
