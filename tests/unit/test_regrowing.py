"""Pruning while training: removed weights go on learning, and may return."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import secateur as sc
from secateur.sparse import Regrowing, sparsity

INPUTS = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def loss_of(outputs: Tensor) -> Tensor:
    return (outputs - INPUTS[:, :4] ** 2).square().mean()


def trained(model: nn.Module, regrowing: Regrowing, steps: int, rate: float = 0.1) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(INPUTS)).backward()
        optimizer.step()
        regrowing(model)


@pytest.mark.parametrize("memory", [1.0, 0.5, 0.0])
def test_steps_are_those_of_dense_weights_with_gradients_at_the_sparse_ones(memory: float) -> None:
    model, total = small_network(), 8 * 16 + 16 * 4
    dense = {name: value.detach().clone() for name, value in model.named_parameters()}
    masks = {name: torch.ones_like(value) for name, value in dense.items() if value.dim() > 1}
    trained(model, Regrowing(model, sparsity=0.75, steps=10, memory=memory, every=2), steps=20)
    for step in range(1, 21):
        used = {name: (dense[name] * masks.get(name, 1)).requires_grad_() for name in dense}
        gradients = torch.autograd.grad(loss_of(functional_call(model, used, INPUTS)), list(used.values()))
        left = {name: torch.where(masks[name] > 0, dense[name], memory * dense[name]) for name in masks}
        dense = {name: left.get(name, dense[name]) - 0.1 * g for name, g in zip(dense, gradients, strict=True)}
        if step % 2 == 0:
            gone = round(0.75 * (1 - max(0, 1 - step / 10) ** 3) * total)
            cut = torch.cat([dense[name].abs().flatten() for name in masks]).kthvalue(gone).values
            masks = {name: (dense[name].abs() > cut).float() for name in masks}
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), dense[name] * masks.get(name, 1))


def test_a_removed_weight_returns_when_it_matters() -> None:
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 1.0]]))
    regrowing = Regrowing(model, sparsity=0.5, steps=1, every=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[list[bool]] = []
    for _ in range(12):
        optimizer.zero_grad()
        ((model(torch.tensor([[1.0, 0.0]])) - 3) ** 2).sum().backward()
        optimizer.step()
        regrowing(model)
        seen.append(regrowing.masks["0.weight"].flatten().tolist())
    assert seen[0] == [False, True]
    assert seen[-1] == [True, False]


@pytest.mark.parametrize("granularity", ["element", "block:2x2", "row"])
def test_prune_takes_over_the_very_zeros(granularity: str) -> None:
    model = small_network()
    trained(model, Regrowing(model, sparsity=0.5, steps=10, every=3, granularity=granularity), steps=15)
    assert sparsity(model) == pytest.approx(0.5, abs=0.05)
    result = sc.prune(
        model,
        INPUTS[:1],
        granularity=granularity,
        budget={"sparsity": sparsity(model)},
        allocator="global",
    )
    assert result.verification is not None
    assert result.verification.ok
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), result.model.parameters(), strict=True))


@pytest.mark.parametrize(
    "wrong", [{"sparsity": 1.0}, {"memory": 1.1}, {"steps": 0}, {"every": 0}, {"granularity": "2:4"}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    asked: dict[str, object] = {"sparsity": 0.5, "steps": 10} | wrong
    with pytest.raises(sc.SecateurError, match="expected a sparsity in"):
        Regrowing(small_network(), **asked)  # type: ignore[arg-type]
