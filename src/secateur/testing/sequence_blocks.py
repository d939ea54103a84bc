"""Blocks of random sequence networks: each maps `(B, count, width)` to the same shape; `width` is a multiple of four.

`free` has the meaning that it has for image blocks.
"""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.testing.image_blocks import Block


class HandNorm(nn.Module):
    """Root-mean-square or full layer norm in plain code."""

    def __init__(self, width: int, *, centred: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def norm_1d(rng: Random, width: int) -> nn.Module:
    """A norm over the last dimension."""
    kind = rng.choice(["layer", "layer", "rms", "hand", "hand-rms"])
    if kind == "layer":
        return nn.LayerNorm(width, elementwise_affine=rng.random() < 0.8)
    return nn.RMSNorm(width) if kind == "rms" else HandNorm(width, centred=kind == "hand")


def _heads(rng: Random) -> tuple[int, int]:
    return rng.choice([2, 3, 4]), rng.choice([2, 3, 4, 6])


class Mlp(Block):
    """A residual two-layer perceptron with a layer scale."""

    free = ("up.weight",)

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        inner = rng.randint(5, 17)
        self.norm, self.up, self.down = norm_1d(rng, width), nn.Linear(width, inner), nn.Linear(inner, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.down(F.gelu(self.up(self.norm(x))))


class SwiGlu(Block):
    """A gated perceptron, packed or not."""

    free = ("gate.weight",)

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        inner = rng.randint(5, 12)
        self.packed = rng.random() < 0.5
        self.norm, self.down = norm_1d(rng, width), nn.Linear(inner, width, bias=False)
        self.gate = nn.Linear(width, 2 * inner if self.packed else inner, bias=False)
        self.up = nn.Identity() if self.packed else nn.Linear(width, inner, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        gate, up = self.gate(y).chunk(2, dim=-1) if self.packed else (self.gate(y), self.up(y))
        return x + self.down(F.silu(gate) * up)


class PackedAttention(Block):
    """Queries, keys and values from one layer, `reshape(B, N, 3, heads, head width)`."""

    free = ("qkv.weight",)

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.num_heads, self.head_dim = _heads(rng)
        self.scale = self.head_dim**-0.5
        self.fused, self.query_norm = rng.random() < 0.5, rng.random() < 0.3
        self.norm, self.qkv = (
            norm_1d(rng, width),
            nn.Linear(width, 3 * self.num_heads * self.head_dim, bias=rng.random() < 0.7),
        )
        self.q_norm = nn.LayerNorm(self.head_dim) if self.query_norm else nn.Identity()
        self.proj = nn.Linear(self.num_heads * self.head_dim, width)
        self.bias = nn.Parameter(torch.zeros(self.num_heads, 1, 1)) if rng.random() < 0.3 else None

    def forward(self, x: Tensor) -> Tensor:
        batch, count, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, count, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q = self.q_norm(q)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q * self.scale) @ k.transpose(-2, -1)
            weights = weights if self.bias is None else weights * self.bias.tanh()
            mixed = weights.softmax(dim=-1) @ v
        return x + self.proj(mixed.transpose(1, 2).reshape(batch, count, -1))


class SplitAttention(Block):
    """One layer cut into queries, keys and values by the width, as language models of the GPT-2 kind do."""

    mask: Tensor

    free = ("qkv.weight",)

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.heads = rng.choice([2, 4])
        self.inner = self.heads * rng.choice([2, 3, 4])
        self.norm, self.qkv, self.proj = (
            norm_1d(rng, width),
            nn.Linear(width, 3 * self.inner),
            nn.Linear(self.inner, width),
        )
        self.register_buffer("mask", torch.tril(torch.ones(16, 16, dtype=torch.bool)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, _ = x.size()
        q, k, v = self.qkv(self.norm(x)).split(self.inner, dim=2)
        q, k, v = (y.view(batch, count, self.heads, self.inner // self.heads).transpose(1, 2) for y in (q, k, v))
        weights = (q @ k.transpose(-2, -1)) / math.sqrt(k.size(-1))
        weights = weights.masked_fill(~self.mask[:count, :count], float("-inf"))
        mixed = (F.softmax(weights, dim=-1) @ v).transpose(1, 2).contiguous().view(batch, count, self.inner)
        return x + self.proj(mixed)


class GroupedQueryAttention(Block):
    """Several queries share a key; keys are repeated by expand and reshape, or by `repeat_interleave`."""

    angles: Tensor

    free = ("q_proj.weight", "v_proj.weight")

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.kv_heads, self.repeats = rng.choice([2, 3]), rng.choice([2, 3])
        self.head_dim = rng.choice([2, 4])
        self.interleave, self.rotary = rng.random() < 0.3, rng.random() < 0.5
        self.norm = norm_1d(rng, width)
        self.q_proj = nn.Linear(width, self.kv_heads * self.repeats * self.head_dim, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.kv_heads * self.repeats * self.head_dim, width, bias=False)
        angles = torch.arange(16)[:, None] * torch.rand(self.head_dim // 2)[None]
        self.register_buffer("angles", torch.cat([angles, angles], -1), persistent=False)

    def _repeated(self, x: Tensor) -> Tensor:
        if self.interleave:
            return torch.repeat_interleave(x, self.repeats, dim=1)
        batch, heads, count, width = x.shape
        wide = x[:, :, None, :, :].expand(batch, heads, self.repeats, count, width)
        return wide.reshape(batch, heads * self.repeats, count, width)

    def _turned(self, x: Tensor) -> Tensor:
        angles = self.angles[: x.shape[-2]]
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
        return x * angles.cos() + turned * angles.sin()

    def forward(self, x: Tensor) -> Tensor:
        batch, count, _ = x.shape
        y = self.norm(x)
        q, k, v = (
            layer(y).view(batch, count, -1, self.head_dim).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.rotary:
            q, k = self._turned(q), self._turned(k)
        k, v = self._repeated(k), self._repeated(v)
        weights = torch.matmul(q, k.transpose(2, 3)) * self.head_dim**-0.5
        mixed = torch.matmul(weights.softmax(-1), v).transpose(1, 2).contiguous()
        return x + self.o_proj(mixed.reshape(batch, count, -1))


class ModuleAttention(Block):
    """`nn.MultiheadAttention`."""

    free = ()

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.batch_first = rng.random() < 0.7
        self.norm = norm_1d(rng, width)
        self.attention = nn.MultiheadAttention(
            width, rng.choice([2, 4]), batch_first=self.batch_first, bias=rng.random() < 0.7
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y = y if self.batch_first else y.transpose(0, 1)
        y = self.attention(y, y, y, need_weights=not self.batch_first)[0]
        return x + (y if self.batch_first else y.transpose(0, 1))


class CrossAttention(Block):
    """Learned queries look at the sequence, and the sequence looks at them."""

    free = ("to_q.weight", "to_v.weight", "queries")

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.heads, self.head = _heads(rng)
        inner = self.heads * self.head
        self.queries = nn.Parameter(torch.empty(rng.randint(3, 6), width))
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner) for _ in range(3))
        self.back = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        latent = self._attend(self.queries.unsqueeze(0).expand(x.shape[0], -1, -1), x)
        return x + self._attend(x, latent)

    def _attend(self, x: Tensor, y: Tensor) -> Tensor:
        q = self.to_q(x).unflatten(-1, (self.heads, self.head))
        k, v = (layer(y).unflatten(-1, (self.heads, self.head)) for layer in (self.to_k, self.to_v))
        weights = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
        return self.back(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


class LinearAttention(Block):
    """Attention without the product over positions: softmax over features and over positions."""

    free = ("qkv.weight",)

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.heads, self.head = _heads(rng)
        self.qkv = nn.Linear(width, 3 * self.heads * self.head, bias=False)
        self.back = nn.Linear(self.heads * self.head, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, _ = x.shape
        q, k, v = (y.reshape(batch, count, self.heads, -1).transpose(1, 2) for y in self.qkv(x).chunk(3, dim=-1))
        context = k.softmax(-2).transpose(-1, -2) @ v
        mixed = q.softmax(-1) @ context
        return x + self.back(mixed.transpose(1, 2).reshape(batch, count, -1))


class TalkingHeads(Block):
    """A linear layer over the heads."""

    free = ("q.weight", "v.weight")

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.heads, self.head = _heads(rng)
        self.q, self.k, self.v = (nn.Linear(width, self.heads * self.head) for _ in range(3))
        self.mix = nn.Linear(self.heads, self.heads)
        self.back = nn.Linear(self.heads * self.head, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, _ = x.shape
        q, k, v = (
            layer(x).view(batch, count, self.heads, self.head).permute(0, 2, 1, 3) for layer in (self.q, self.k, self.v)
        )
        weights = self.mix((q @ k.mT).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.back((weights.softmax(-1) @ v).permute(0, 2, 1, 3).flatten(2))


class TokenMixer(Block):
    """A perceptron over positions, then one over channels."""

    free = ("tokens.0.weight", "channels.0.weight")

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        inner, wide = rng.randint(4, 8), rng.randint(5, 12)
        self.norm1, self.norm2 = norm_1d(rng, width), norm_1d(rng, width)
        self.tokens = nn.Sequential(nn.Linear(count, inner), nn.GELU(), nn.Linear(inner, count))
        self.channels = nn.Sequential(nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class SequenceConv(Block):
    """A convolution module over time: pointwise, gated, depthwise, normalised."""

    free = ("enter.weight", "leave.weight")

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        inner = rng.randint(4, 9)
        self.enter = nn.Conv1d(width, 2 * inner, 1)
        self.depthwise, self.norm = nn.Conv1d(inner, inner, 3, padding=1, groups=inner), nn.BatchNorm1d(inner)
        self.leave = nn.Conv1d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.enter(x.transpose(1, 2)), dim=1)
        return x + self.leave(F.silu(self.norm(self.depthwise(y)))).transpose(1, 2)


class Recurrent(Block):
    """LSTM or GRU."""

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        kind = rng.choice([nn.LSTM, nn.GRU])
        hidden, both = rng.randint(4, 7), rng.random() < 0.3
        self.enter = nn.Linear(width, 6)
        self.cell = kind(6, hidden, batch_first=True, bidirectional=both)
        self.back = nn.Linear(hidden * (1 + both), width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.cell(torch.relu(self.enter(x)))[0])


class Encoder(Block):
    """`nn.TransformerEncoderLayer`."""

    free = ("layer.linear1.weight",)

    def __init__(self, rng: Random, width: int, count: int) -> None:
        super().__init__(rng, width, count)
        self.layer = nn.TransformerEncoderLayer(
            width, rng.choice([2, 4]), rng.randint(5, 12), batch_first=True, norm_first=rng.random() < 0.5
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


SEQUENCE_BLOCKS: tuple[type[Block], ...] = (
    Mlp, SwiGlu, PackedAttention, SplitAttention, GroupedQueryAttention, ModuleAttention, CrossAttention,
    LinearAttention,
    TalkingHeads, TokenMixer, SequenceConv, Recurrent, Encoder,
)  # fmt: skip
