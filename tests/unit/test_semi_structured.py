"""2:4 weights on sparse tensor cores: only where there are such, and only weights that fit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.sparse.semi_structured import obstacle, semi_structured_


def test_without_the_hardware_it_says_so_and_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Linear(64, 32))
    before = model[0].weight
    with pytest.raises(sc.SecateurError, match="GPUs with sparse tensor cores alone, and '0' is on cpu"):
        semi_structured_(model)
    assert model[0].weight is before


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (torch.tensor([0, 0, 1, 1]).tile(32, 16).half(), None),
        (torch.tensor([0, 0, 1, 1]).tile(32, 16).float(), "its type"),
        (torch.tensor([0, 0, 1, 1]).tile(30, 16).half(), "its shape"),
        (torch.tensor([0, 1, 1, 1]).tile(32, 16).half(), "more than 2 of 4"),
    ],
    ids=["fits", "type", "shape", "pattern"],
)
def test_what_stays_dense_has_a_reason(weight: torch.Tensor, reason: str | None) -> None:
    found = obstacle(weight)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor")
def test_outputs_are_the_same_on_sparse_tensor_cores() -> None:
    model = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 10))
    pruned = sc.prune(model, torch.randn(1, 128), granularity="2:4").model.cuda().half()
    compressed = copy.deepcopy(pruned)
    made = semi_structured_(compressed)
    x = torch.randn(64, 128, device="cuda", dtype=torch.float16)
    torch.testing.assert_close(compressed(x), pruned(x), rtol=1e-2, atol=1e-2)
    assert made.layers == ("0",)
    assert "its shape" in made.left_dense["2"]
