"""Sizes as models write them in Python, and what follows them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import secateur as sc


def halved(model: nn.Module, inputs, **options):
    torch.manual_seed(0)
    result = sc.prune(model.eval(), inputs, budget={"channels": 0.5}, **options)
    assert result.verification.ok, result.verification.detail
    return result


def free(result) -> set[str]:
    return {axis.name for axis in result.structure.prunable}


@dataclass(frozen=True)
class Config:
    n_head: int = 4
    n_embd: int = 24


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.qkv, self.out = nn.Linear(config.n_embd, 3 * config.n_embd), nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x):
        batch, length, _ = x.shape
        heads, width = self.config.n_head, self.config.n_embd // self.config.n_head
        q, k, v = (t.view(batch, length, heads, width).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, self.config.n_embd)
        return x + self.out(y)


class Configured(nn.Module):
    def __init__(self):
        super().__init__()
        config = Config()
        self.embed, self.head = nn.Linear(5, config.n_embd), nn.Linear(config.n_embd, 3)
        self.blocks = nn.Sequential(Block(config), Block(config))

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)))


def test_sizes_in_a_shared_configuration_object_follow_and_the_users_object_stays():
    model = Configured()
    result = halved(model, torch.randn(2, 6, 5))
    small = result.model.blocks[1].config
    assert small.n_embd == result.plan.sizes["embed.out"] == 12
    assert small is result.model.blocks[0].config
    assert model.blocks[0].config == Config()


class Shuffled(nn.Module):
    """Two halves, of which one is worked on and the other passed by; then shuffled."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.stem, self.work = nn.Conv2d(3, width, 1), nn.ModuleList(nn.Conv2d(width // 2, width // 2, 1) for _ in "ab")
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.work:
            left, right = x.chunk(2, dim=1)
            x = torch.cat([left, conv(right)], 1)
            batch, channels, height, width = x.shape
            x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, channels, height, width)
        return self.head(x.mean((2, 3)))


def test_channel_shuffles_keep_halves_in_proportion():
    result = halved(Shuffled(), torch.randn(1, 3, 4, 4))
    assert result.model.stem.out_channels == 8


class Bare(nn.Module):
    """Attention whose residual stream is the output."""

    def __init__(self):
        super().__init__()
        self.heads = 4
        self.q, self.k, self.v, self.out = (nn.Linear(24, 24) for _ in range(4))

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_head_widths_go_by_default_where_the_stream_must_stay():
    result = halved(Bare(), torch.randn(2, 6, 24))
    assert {axis.role for axis in result.structure.axes if axis.chosen} == {"heads", "head_width"}
    assert result.model.q.out_features == 2 * 3


class Compared(nn.Module):
    """Branches on whether its two widths differ, one of which is used for nothing else."""

    def __init__(self, into: int, out: int):
        super().__init__()
        self.into, self.out = into, out
        self.norm, self.linear, self.skip = nn.LayerNorm(into), nn.Linear(into, out), nn.Linear(into, out)

    def forward(self, x):
        y = self.linear(self.norm(x)).view(*x.shape[:-1], self.out)
        return y + (self.skip(x) if self.into != self.out else x)


def test_a_width_that_is_only_compared_follows():
    model = nn.Sequential(nn.Linear(5, 16), Compared(16, 32), nn.Linear(32, 3))
    result = halved(model, torch.randn(2, 5))
    assert (result.model[1].into, result.model[1].out) == (8, 16)


class Halves(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(8, 12, 1), nn.Conv2d(8, 12, 1)
        self.width, self.head = 16, nn.Linear(12, 2)

    def forward(self, x):
        left, right = torch.split(self.stem(x), self.width // 2, 1)
        return self.head((self.a(left) * self.b(right)).mean((2, 3)))


def test_an_attribute_that_is_only_used_halved_follows():
    result = halved(Halves(), torch.randn(1, 3, 4, 4))
    assert result.model.width == result.model.stem.out_channels == 8


class Written(nn.Module):
    """Overwrites some positions of a sequence, and looks at an empty part of it."""

    def __init__(self):
        super().__init__()
        self.embed, self.mask, self.head = nn.Linear(5, 16), nn.Parameter(torch.randn(16)), nn.Linear(16, 3)

    def forward(self, x):
        y = self.embed(x)
        where = torch.zeros(y.shape[:2], dtype=torch.bool)
        where[:, 1] = True
        y[where] = self.mask
        return self.head(torch.cat([y[:, :0], y], 1))


def test_writing_at_positions_keeps_positions_alone():
    result = halved(Written(), torch.randn(2, 4, 5))
    assert result.model.mask.shape == (8,)


class Experts(nn.Module):
    """Each token goes to two of six experts, whose weights and biases are looked up."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(8, 6)
        self.weight, self.bias = nn.Parameter(torch.randn(6, 8, 8)), nn.Parameter(torch.randn(6, 8))

    def forward(self, x):
        probability = self.router(x).softmax(-1)
        best, which = probability.topk(2, dim=-1)
        y = torch.einsum("td,tkde->tke", x, self.weight[which]) + self.bias[which]
        return (y * best[..., None]).sum(1)


def test_experts_that_are_looked_up_by_position_can_go_but_as_many_stay_as_are_picked():
    result = halved(Experts(), torch.randn(5, 8), granularity="experts")
    assert result.plan.sizes["weight.out"] == 3
    least = sc.prune(Experts(), torch.randn(5, 8), budget={"channels": 0.4}, granularity="experts")
    assert least.plan.sizes["weight.out"] == 2
    with pytest.raises(sc.SecateurError, match="cannot be met"):
        sc.prune(Experts(), torch.randn(5, 8), budget={"channels": 0.2}, granularity="experts")


class Numbers(Experts):
    def forward(self, x):
        return super().forward(x) + self.router(x).topk(2).indices.float().sum(-1, keepdim=True)


def test_positions_that_are_used_as_numbers_pin():
    structure = sc.trace(Numbers(), torch.randn(5, 8))
    assert structure.axis["weight.out"].pin.code == "by-value"


class Finds(nn.Module):
    """A detector: how many rows it puts out depends on values."""

    def __init__(self, least: float):
        super().__init__()
        self.body, self.head, self.least = nn.Linear(5, 16), nn.Linear(16, 3), least

    def forward(self, x):
        scores = self.head(torch.relu(self.body(x)))
        kept = scores[scores.amax(-1) > self.least]
        return scores, torch.stack([row.sum() for row in kept]) if len(kept) else kept.sum(-1)


@pytest.mark.parametrize("least", [-0.1, 0.2, 1e9])
def test_as_many_rows_as_are_found(least):
    torch.manual_seed(1)
    halved(Finds(least), torch.randn(40, 5))


def test_an_output_of_zeros_proves_nothing():
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    nn.init.zeros_(model[4].weight)
    nn.init.zeros_(model[4].bias)
    result = sc.prune(model, torch.randn(2, 5), budget={"channels": 0.5}, ignore=["2"])
    with torch.no_grad():
        result.model[0].weight.mul_(2)
    check = sc.verify(model, result.model, result.plan, torch.randn(2, 5))
    assert not check.ok
