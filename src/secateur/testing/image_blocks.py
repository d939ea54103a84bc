"""Blocks of random image networks: each maps `(B, channels, H, W)` to `(B, out, H', W')`.

Channels and outputs are multiples of four. `free` names the tensors of the block whose dimension 0 holds an axis
that the engine is expected to let go; a test demands it, so that pins cannot hide failures.
"""

from __future__ import annotations

from random import Random
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Base of all blocks."""

    free: ClassVar[tuple[str, ...]] = ()

    def __init__(self, rng: Random, channels: int, out: int) -> None:  # noqa: ARG002 (the signature of all blocks)
        super().__init__()


def norm_2d(rng: Random, channels: int) -> nn.Module:
    """A norm over channels of images, of any kind (or none)."""
    kind = rng.choice(["batch", "batch", "batch", "group", "instance", "instance-stats", "none"])
    if kind == "batch":
        return nn.BatchNorm2d(channels, affine=rng.random() < 0.8)
    if kind == "group":
        groups = rng.choice([g for g in (1, 2, 4) if channels % g == 0])
        return nn.GroupNorm(groups, channels)
    if kind == "none":
        return nn.Identity()
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=kind == "instance-stats")


def activation(rng: Random, channels: int) -> nn.Module:
    """An activation of any kind."""
    kind = rng.choice([nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.ELU, nn.PReLU])
    if kind is nn.PReLU:
        return nn.PReLU(rng.choice([1, channels]))
    return nn.ReLU(inplace=rng.random() < 0.5) if kind is nn.ReLU else kind()


def _conv(rng: Random, channels: int, out: int, size: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, size, padding=size // 2, bias=rng.random() < 0.5, stride=stride, groups=groups)


def _width(rng: Random) -> int:
    return rng.randint(4, 9)


class Plain(Block):
    """Two convolutions with norms."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = 2 * _width(rng)
        self.first = _conv(rng, channels, width, rng.choice([1, 3]), stride=rng.choice([1, 2]))
        self.norm, self.act = norm_2d(rng, width), activation(rng, width)
        self.second = _conv(rng, width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.act(self.norm(self.first(x))))


class Residual(Block):
    """A basic block with an identity or a projected shortcut."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width, stride = _width(rng), rng.choice([1, 2])
        self.first, self.norm1 = _conv(rng, channels, width, stride=stride), nn.BatchNorm2d(width)
        self.second, self.norm2 = _conv(rng, width, out), norm_2d(rng, out)
        self.shortcut = (
            nn.Identity() if channels == out and stride == 1 else _conv(rng, channels, out, 1, stride=stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.first(x)))
        y = self.norm2(self.second(y))
        y += self.shortcut(x)
        return F.relu(y)


class PaddedShortcut(Block):
    """The shortcut of CIFAR residual networks: every second pixel, channels padded with zeros (option A)."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.extra = max(0, out - channels)
        width = _width(rng)
        self.first = _conv(rng, channels, width, stride=2)
        self.second, self.norm = _conv(rng, width, channels + self.extra), nn.BatchNorm2d(channels + self.extra)
        self.last = _conv(rng, channels + self.extra, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        short = x[:, :, ::2, ::2]
        if self.extra:
            short = F.pad(short, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return self.last(F.relu(self.norm(self.second(F.relu(self.first(x)))) + short))


class PaddedEnd(Block):
    """Channels padded at the end by a number that the module holds."""

    free = ("conv.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.extra = _width(rng)
        self.conv, self.last = _conv(rng, channels, channels + self.extra), _conv(rng, channels + self.extra, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.conv(x) + F.pad(x, (0, 0, 0, 0, 0, self.extra))))


class Dense(Block):
    """Densely connected layers and a transition."""

    free = ("layers.0.1.weight", "layers.1.1.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        growth, count = _width(rng), rng.randint(2, 3)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(channels + i * growth), _conv(rng, channels + i * growth, growth))
            for i in range(count)
        )
        self.norm = nn.BatchNorm2d(channels + count * growth)
        self.last = _conv(rng, channels + count * growth, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(F.relu(layer(torch.cat(features, 1))))
        return F.avg_pool2d(self.last(F.relu(self.norm(torch.cat(features, 1)))), 2, ceil_mode=True)


class Inception(Block):
    """Parallel branches, concatenated."""

    free = ("one.weight", "three.0.weight", "three.2.weight", "pooled.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        a, b, c = _width(rng), _width(rng), _width(rng)
        self.one = _conv(rng, channels, a, 1)
        self.three = nn.Sequential(_conv(rng, channels, b, 1), nn.ReLU(), _conv(rng, b, c))
        self.pooled = _conv(rng, channels, b, 1)
        self.norm = nn.BatchNorm2d(a + b + c)
        self.last = _conv(rng, a + b + c, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.max_pool2d(x, 3, 1, 1)
        joined = torch.cat([self.one(x), self.pooled(pooled), self.three(x)], dim=1)
        return self.last(torch.relu(self.norm(joined)))


class Grouped(Block):
    """A grouped convolution between two pointwise ones."""

    free = ("first.weight", "grouped.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        groups = rng.choice([2, 3, 4])
        inside, outside = groups * rng.randint(2, 4), groups * rng.randint(2, 4)
        self.first, self.norm1 = _conv(rng, channels, inside, 1), norm_2d(rng, inside)
        self.grouped = _conv(rng, inside, outside, groups=groups, stride=rng.choice([1, 2]))
        self.norm2, self.act = norm_2d(rng, outside), activation(rng, outside)
        self.last = _conv(rng, outside, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.norm2(self.grouped(F.relu(self.norm1(self.first(x)))))))


class Depthwise(Block):
    """A depthwise convolution, with a channel multiplier at times."""

    free = ("first.weight", "depthwise.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width, multiplier = _width(rng), rng.choice([1, 1, 2, 3])
        self.first, self.norm1 = _conv(rng, channels, width, 1), nn.BatchNorm2d(width)
        self.depthwise = _conv(rng, width, width * multiplier, groups=width)
        self.norm2 = nn.BatchNorm2d(width * multiplier)
        self.last = _conv(rng, width * multiplier, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.norm1(self.first(x)))
        return self.last(F.hardswish(self.norm2(self.depthwise(y))))


class SqueezeExcite(Block):
    """An inverted residual with squeeze-excite and a layer scale."""

    free = ("expand.weight", "reduce.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width, squeezed = 2 * _width(rng), _width(rng)
        self.expand, self.norm = _conv(rng, channels, width, 1), nn.BatchNorm2d(width)
        self.depthwise = _conv(rng, width, width, groups=width)
        self.linear = rng.random() < 0.5
        self.reduce = nn.Linear(width, squeezed) if self.linear else nn.Conv2d(width, squeezed, 1)
        self.restore = nn.Linear(squeezed, width) if self.linear else nn.Conv2d(squeezed, width, 1)
        self.last = _conv(rng, width, channels, 1)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.out = _conv(rng, channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.depthwise(self.expand(x))))
        gate = y.mean((2, 3)) if self.linear else F.adaptive_avg_pool2d(y, 1)
        gate = torch.sigmoid(self.restore(F.relu(self.reduce(gate))))
        if self.linear:
            gate = gate.view(gate.shape[0], gate.size(1), 1, 1)
        return self.out(x + self.scale * self.last(y * gate))


class Transposed(Block):
    """Up by a transposed convolution (grouped at times) and down again."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        groups = rng.choice([1, 1, 2])
        inside, outside = groups * _width(rng), groups * _width(rng)
        self.first = _conv(rng, channels, inside, 1)
        self.up = nn.ConvTranspose2d(inside, outside, 2, stride=2, groups=groups, bias=rng.random() < 0.5)
        self.norm = norm_2d(rng, outside)
        self.down = _conv(rng, outside, out, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.norm(self.up(self.first(x)))))


class Glu(Block):
    """Half of the channels gates the other half."""

    free = ("conv.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = _width(rng)
        self.how = rng.choice(["chunk", "glu", "split"])
        self.conv, self.last = _conv(rng, channels, 2 * width), _conv(rng, width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.how == "glu":
            return self.last(F.glu(y, 1))
        a, b = y.chunk(2, dim=1) if self.how == "chunk" else torch.split(y, y.shape[1] // 2, dim=1)
        return self.last(a * torch.sigmoid(b))


class PixelShuffle(Block):
    """Channels to space, and space to channels."""

    free = ("first.weight", "second.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = _width(rng)
        self.first, self.norm = _conv(rng, channels, 4 * width), nn.BatchNorm2d(4 * width)
        self.second = _conv(rng, width, width, 1)
        self.last = _conv(rng, 4 * width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_shuffle(self.norm(self.first(x)), 2)
        return self.last(F.pixel_unshuffle(F.relu(self.second(F.relu(y))), 2))


class ChannelShuffle(Block):
    """A shuffle unit: half of the channels pass, half are convolved, then all are shuffled."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = 2 * _width(rng)
        self.enter = _conv(rng, channels, 2 * width, 1)
        self.first = _conv(rng, width, 4, 1)
        self.second, self.norm = _conv(rng, 4, width), nn.BatchNorm2d(width)
        self.groups = 2
        self.last = _conv(rng, 2 * width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.enter(x).chunk(2, dim=1)
        y = torch.cat((left, F.relu(self.norm(self.second(self.first(right))))), dim=1)
        batch, channels, height, width = y.size()
        y = y.view(batch, self.groups, channels // self.groups, height, width).transpose(1, 2).contiguous()
        return self.last(F.relu(y.view(batch, -1, height, width)))


class GroupedShuffle(Block):
    """Grouped convolutions with a shuffle between them."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        groups = rng.choice([2, 3])
        width = groups * groups * rng.randint(1, 2)
        self.first = _conv(rng, channels, width, 1)
        self.second = _conv(rng, width, width, groups=groups)
        self.shuffle = nn.ChannelShuffle(groups)
        self.third = _conv(rng, width, width, groups=groups)
        self.last = _conv(rng, width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.third(self.shuffle(F.relu(self.second(self.first(x)))))))


class Sliced(Block):
    """Channels taken apart by sizes that the module holds."""

    free = ("conv.weight", "part.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.first, self.second = _width(rng), _width(rng)
        self.how = rng.choice(["slice", "split", "narrow"])
        self.conv = _conv(rng, channels, self.first + self.second)
        self.part = _conv(rng, self.first, _width(rng) if rng.random() < 0.5 else self.first)
        self.last = nn.Conv2d(self.part.out_channels + self.second, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        if self.how == "slice":
            a, b = y[:, : self.first], y[:, self.first :]
        elif self.how == "split":
            a, b = torch.split(y, [self.first, self.second], dim=1)
        else:
            a, b = y.narrow(1, 0, self.first), y.narrow(1, self.first, self.second)
        return self.last(torch.cat([F.relu(self.part(a)), b], 1))


class Scales(Block):
    """Res2Net: parts of the channels, each convolved after the one before it was added."""

    free = ()

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.width = _width(rng)
        self.first = _conv(rng, channels, 3 * self.width, 1)
        self.convs = nn.ModuleList(_conv(rng, self.width, self.width) for _ in range(2))
        self.last = _conv(rng, 3 * self.width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(self.first(x), self.width, 1)
        made = [parts[0]]
        for conv, part in zip(self.convs, parts[1:], strict=True):
            made.append(F.relu(conv(made[-1] + part)))
        return self.last(torch.cat(made, 1))


class ConvNext(Block):
    """Depthwise, channels last, LayerNorm, an inverted bottleneck, a layer scale."""

    free = ("up.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = 2 * _width(rng)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, width), nn.Linear(width, channels)
        self.gamma = nn.Parameter(torch.ones(channels))
        self.response = rng.random() < 0.5
        self.last = _conv(rng, channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.up(self.norm(self.depthwise(x).permute(0, 2, 3, 1))))
        if self.response:  # global response normalisation
            size = torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True)
            y = y + y * (size / (size.mean(dim=-1, keepdim=True) + 1e-6))
        return self.last(x + (self.gamma * self.down(y)).permute(0, 3, 1, 2))


class SelfAttention2d(Block):
    """Non-local attention over pixels."""

    free = ("query.weight", "value.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = _width(rng)
        self.query, self.key = _conv(rng, channels, width, 1), _conv(rng, channels, width, 1)
        self.value, self.back = _conv(rng, channels, width, 1), _conv(rng, width, channels, 1)
        self.last = _conv(rng, channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        query, key = self.query(x).flatten(2).transpose(1, 2), self.key(x).flatten(2)
        weights = torch.softmax(torch.bmm(query, key), -1)
        mixed = torch.bmm(self.value(x).view(batch, -1, height * width), weights.transpose(1, 2))
        return self.last(x + self.back(mixed.view(batch, -1, height, width)))


class Spatial(Block):
    """CBAM: attention over space from the mean and the maximum over channels."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.first = _conv(rng, channels, _width(rng))
        self.gate = nn.Conv2d(2, 1, 3, padding=1)
        self.last = _conv(rng, self.first.out_channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        both = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        return self.last(y * torch.sigmoid(self.gate(both)))


class Mirrored(Block):
    """Concatenation of a tensor with itself, negated (CReLU)."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.first = _conv(rng, channels, _width(rng))
        self.norm = nn.BatchNorm2d(2 * self.first.out_channels)
        self.last = _conv(rng, 2 * self.first.out_channels, out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(F.relu(self.norm(torch.cat([y, -y], 1))))


class Repeated(Block):
    """One convolution applied several times."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = _width(rng)
        self.first, self.shared, self.last = (
            _conv(rng, channels, width),
            _conv(rng, width, width),
            _conv(rng, width, out),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        for _ in range(2):
            y = torch.tanh(self.shared(y))
        return self.last(y)


class Pyramid(Block):
    """Down, up again by interpolation, beside what was there before."""

    free = ("down.weight", "side.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        a, b = _width(rng), _width(rng)
        self.down, self.norm = _conv(rng, channels, a, stride=2), norm_2d(rng, a)
        self.side = _conv(rng, channels, b)
        self.last = _conv(rng, a + b, out, 1)
        self.mode = rng.choice(["nearest", "bilinear"])

    def forward(self, x: Tensor) -> Tensor:
        low = F.relu(self.norm(self.down(x)))
        low = F.interpolate(low, size=x.shape[-2:], mode=self.mode)
        return self.last(torch.cat([low, self.side(x)], dim=1))


class Coordinates(Block):
    """Two channels of coordinates beside the others."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.first = _conv(rng, channels, _width(rng))
        self.last = _conv(rng, self.first.out_channels + 2, out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        rows = (
            torch.linspace(-1, 1, y.shape[2], device=y.device).view(1, 1, -1, 1).expand(y.shape[0], 1, -1, y.shape[3])
        )
        columns = torch.linspace(-1, 1, y.shape[3], device=y.device).expand(y.shape[0], 1, y.shape[2], -1)
        return self.last(torch.cat([y, rows, columns], 1))


class Normalised(Block):
    """Statistics over channels in plain code: softmax, unit length, or mean and variance."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.how = rng.choice(
            ["softmax", "normalize", "norm", "standard", "var", "std", "std_mean", "max", "logsumexp"]
        )
        self.first = _conv(rng, channels, 2 * _width(rng))
        self.last = _conv(rng, self.first.out_channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.how == "softmax":
            y = y.softmax(1) * 4
        elif self.how == "normalize":
            y = F.normalize(y, dim=1)
        elif self.how == "norm":
            y = y / (y.norm(dim=1, keepdim=True) + 0.1)
        elif self.how == "standard":
            centred = y - y.mean(1, keepdim=True)
            y = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
        elif self.how == "var":
            y = y / (y.var(1, keepdim=True, correction=0) + 0.1)
        elif self.how == "std":
            y = y / (y.std(1, correction=0) + 0.1)[:, None]
        elif self.how == "std_mean":
            std, mean = torch.std_mean(y, dim=1, keepdim=True, correction=0)
            y = (y - mean) / (std + 0.1)
        elif self.how == "max":
            y = y - y.max(dim=1, keepdim=True).values
        else:
            y = y - torch.logsumexp(y, 1, keepdim=True)
        return self.last(y)


class Selective(Block):
    """Branches weighted by a softmax over the branches."""

    free = ("first.weight", "squeeze.weight")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width, squeezed = _width(rng), _width(rng)
        self.first, self.second = _conv(rng, channels, width), _conv(rng, channels, width, 1)
        self.squeeze = nn.Linear(width, squeezed)
        self.selects = nn.ModuleList(nn.Linear(squeezed, width) for _ in range(2))
        self.last = _conv(rng, width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([self.first(x), self.second(x)], 1)
        squeezed = F.relu(self.squeeze(branches.sum(1).mean((-2, -1))))
        weights = torch.stack([select(squeezed) for select in self.selects], 1).softmax(1)
        return self.last((branches * weights[..., None, None]).sum(1))


class Standardised(Block):
    """Weight standardisation: the weight is normalised over its inputs on the way."""

    free = ("first.weight",)

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        self.how = rng.choice(["batch_norm", "mean"])
        width = _width(rng)
        self.first, self.second = _conv(rng, channels, width), _conv(rng, width, out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        weight = self.second.weight
        if self.how == "batch_norm":
            flat = weight.reshape(1, self.second.out_channels, -1)
            weight = F.batch_norm(flat, None, None, training=True, momentum=0.0).reshape_as(weight)
        else:
            weight = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        return F.conv2d(y, weight, self.second.bias, padding=1)


class WeightNorm(Block):
    """Weights given by direction and length."""

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        width = _width(rng)
        self.first = nn.utils.parametrizations.weight_norm(_conv(rng, channels, width))
        self.last = _conv(rng, width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.first(x)))


class Einsum(Block):
    """Channels mixed by a parameter of its own, in an einsum."""

    free = ("first.weight", "mix")

    def __init__(self, rng: Random, channels: int, out: int) -> None:
        super().__init__(rng, channels, out)
        a, b = _width(rng), _width(rng)
        self.first, self.last = _conv(rng, channels, a), _conv(rng, b, out, 1)
        self.mix = nn.Parameter(torch.empty(a, b))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.einsum("bchw,cd->bdhw", F.relu(self.first(x)), self.mix))


IMAGE_BLOCKS: tuple[type[Block], ...] = (
    Plain, Residual, PaddedShortcut, PaddedEnd, Dense, Inception, Grouped, Depthwise, SqueezeExcite, Transposed, Glu,
    PixelShuffle, ChannelShuffle, GroupedShuffle, Sliced, Scales, ConvNext, SelfAttention2d, Spatial, Mirrored,
    Repeated,
    Pyramid, Coordinates, Normalised, Selective, Standardised, WeightNorm, Einsum,
)  # fmt: skip
