"""Small networks of kinds that no library has, a few lines each."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


class Recurrent(nn.Module):
    """A bidirectional LSTM of two layers, then a GRU; the last step is read."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(19, 6)
        self.lstm = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.gru, self.head = nn.GRU(16, 10, batch_first=True), nn.Linear(10, 3)

    def forward(self, index: Tensor) -> Tensor:
        x, _ = self.lstm(self.tokens(index))
        _, last = self.gru(x)
        return self.head(last[-1])


class ChannelShuffle(nn.Module):
    """Grouped convolutions with a shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 1, groups=4)
        self.second, self.head = nn.Conv2d(32, 16, 3, groups=4), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.channel_shuffle(F.relu(self.first(self.stem(x))), self.first.groups)
        return self.head(self.second(x).mean((2, 3)))


class PixelShuffle(nn.Module):
    """Super-resolution: channels become pixels, and pixels channels."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.body = nn.PixelUnshuffle(2), nn.Conv2d(12, 16, 3, padding=1)
        self.wide, self.up, self.out = nn.Conv2d(16, 32, 1), nn.PixelShuffle(2), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.up(self.wide(F.relu(self.body(self.down(x)))))))


class UNet(nn.Module):
    """One dimension: down, up by a transposed convolution, and beside it what was there before."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Conv1d(2, 8, 3, padding=1), nn.Conv1d(8, 16, 4, stride=2, padding=1)
        self.norm, self.middle = nn.GroupNorm(4, 16), nn.Conv1d(16, 16, 3, padding=1)
        self.up, self.leave = nn.ConvTranspose1d(16, 8, 4, stride=2, padding=1), nn.Conv1d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.enter(x))
        second = F.silu(self.norm(self.down(first)))
        up = self.up(second + self.middle(second))
        return self.leave(torch.cat([first, up], dim=1))


class Volumes(nn.Module):
    """Three dimensions, down by a strided convolution and up by a grouped transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv3d(1, 8, 3, padding=1, bias=False), nn.BatchNorm3d(8)
        self.down = nn.Conv3d(8, 12, 2, stride=2)
        self.up, self.out = nn.ConvTranspose3d(12, 8, 2, stride=2, groups=2), nn.Conv3d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        return self.out(x + self.up(F.relu(self.down(x))))


class Functional(nn.Module):
    """No layers: bare parameters, functional calls, a scale and a shift."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.shift = nn.Parameter(torch.ones(10, 3, 3, 3)), nn.Parameter(torch.zeros(10, 1, 1))
        self.weights = nn.ParameterDict({"in": nn.Parameter(torch.ones(7, 10)), "out": nn.Parameter(torch.ones(7, 4))})
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(7)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = (F.relu(F.conv2d(x, self.kernel) + self.shift)).mean((2, 3))
        x = F.linear(x, self.weights["in"])
        for gain in self.gains:
            x = torch.tanh(x * gain)
        return x @ self.weights["out"]


class Attention(nn.Module):
    """`nn.MultiheadAttention` of a sequence to itself, and to another of other width."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 24)
        self.own = nn.MultiheadAttention(24, 4, batch_first=True)
        self.cross = nn.MultiheadAttention(24, 3, kdim=7, vdim=7, batch_first=True)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 3)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        x = self.enter(x)
        x = x + self.own(x, x, x)[0]
        x = x + self.cross(x, other, other, need_weights=False)[0]
        return self.head(self.norm(x))


class EncoderDecoder(nn.Module):
    """`nn.Transformer`: encoder layers, decoder layers with cross attention, tied embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(23, 16)
        self.transformer = nn.Transformer(16, 4, 1, 1, 40, batch_first=True)
        self.head = nn.Linear(16, 23, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.transformer(self.tokens(source), self.tokens(target)))


class TalkingHeads(nn.Module):
    """Linear layers over the heads, before and after the softmax, and a layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.enter = 4, nn.Linear(6, 24)
        self.qkv, self.out = nn.Linear(24, 72), nn.Linear(24, 24)
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)
        self.scale, self.head = nn.Parameter(torch.full((24,), 0.1)), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) * (c // self.heads) ** -0.5
        scores = self.before(scores.permute(0, 2, 3, 1)).softmax(dim=-2)
        mixed = self.after(scores).permute(0, 3, 1, 2) @ v
        return self.head(x + self.scale * self.out(mixed.transpose(1, 2).reshape(b, n, c)))


class CrossCovariance(nn.Module):
    """Attention between features: the softmax is over the width of a head."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.enter = 3, nn.Linear(6, 24)
        self.qkv, self.out = nn.Linear(24, 72, bias=False), nn.Linear(24, 24)
        self.temperature, self.head = nn.Parameter(torch.ones(3, 1, 1)), nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 4, 1)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        mixed = (q @ k.transpose(-2, -1) * self.temperature).softmax(dim=-1) @ v
        return self.head(x + self.out(mixed.permute(0, 3, 1, 2).reshape(b, n, -1)))


class GatedMlp(nn.Module):
    """SwiGLU, once from two layers and once from one that is cut in halves."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 16)
        self.gate, self.up, self.down = nn.Linear(16, 28), nn.Linear(16, 28), nn.Linear(28, 16)
        self.both, self.back, self.head = nn.Linear(16, 56), nn.Linear(28, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        x = x + self.down(F.silu(self.gate(x)) * self.up(x))
        gate, up = self.both(x).chunk(2, dim=-1)
        return self.head(x + self.back(F.silu(gate) * up))


class Experts(nn.Module):
    """A mixture whose weights are stacked; every expert runs, two count."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.router = nn.Linear(6, 12), nn.Linear(12, 4, bias=False)
        self.up, self.down = nn.Parameter(torch.ones(4, 12, 20)), nn.Parameter(torch.ones(4, 20, 12))
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        values, picked = self.router(x).softmax(-1).topk(2, dim=-1)
        weights = torch.zeros_like(self.router(x)).scatter(-1, picked, values)
        made = torch.einsum("nef,efd->ned", F.gelu(torch.einsum("nd,edf->nef", x, self.up)), self.down)
        return self.head(x + (made * weights[..., None]).sum(1))


class SqueezeExcite(nn.Module):
    """An inverted residual with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 32, 1)
        self.depthwise, self.norm = nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.BatchNorm2d(32)
        self.squeeze, self.excite = nn.Conv2d(32, 6, 1), nn.Conv2d(6, 32, 1)
        self.project, self.head = nn.Conv2d(32, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inside = F.silu(self.norm(self.depthwise(F.silu(self.expand(x)))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(inside.mean((2, 3), keepdim=True)))))
        return self.head((x + self.project(inside * gate)).mean((2, 3)))


class SplitAttention(nn.Module):
    """Branches of one convolution, weighted by a softmax over the branches."""

    def __init__(self) -> None:
        super().__init__()
        self.radix, self.stem = 2, nn.Conv2d(3, 8, 3)
        self.wide, self.norm = nn.Conv2d(8, 24, 3, padding=1, groups=2), nn.BatchNorm2d(24)
        self.narrow, self.weigh, self.head = nn.Conv2d(12, 6, 1), nn.Conv2d(6, 24, 1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.wide(self.stem(x))))
        b, _, h, w = x.shape
        branches = x.view(b, self.radix, -1, h, w)
        pooled = branches.sum(1).mean((2, 3), keepdim=True)
        weights = self.weigh(F.relu(self.narrow(pooled))).view(b, self.radix, -1, 1, 1).softmax(1)
        return self.head((branches * weights).sum(1).mean((2, 3)))


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised on the way."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class WeightNorms(nn.Module):
    """Weight norm, old and new, and weight standardisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = weight_norm(nn.Conv2d(3, 8, 3)), Standardised(8, 12, 3)
        self.third = weight_norm(nn.Linear(12, 10), dim=None)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.head(F.relu(self.third(x.amax((2, 3)))))


class Branches(nn.Module):
    """RepVGG in training form: three by three, one by one and identity, each with its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.large, self.large_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.small, self.small_norm = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.own_norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = self.large_norm(self.large(x)) + self.small_norm(self.small(x)) + self.own_norm(x)
        return self.head(F.relu(x).mean((2, 3)))


class Pyramid(nn.Module):
    """A detector without anchors: a backbone of three levels, a feature pyramid, heads shared by the levels."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [8, 12, 16]
        self.levels = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip([3, *sizes], sizes, strict=False))
        self.side = nn.ModuleList(nn.Conv2d(size, 10, 1) for size in sizes)
        self.smooth = nn.ModuleList(nn.Conv2d(10, 10, 3, padding=1) for _ in sizes)
        self.tower, self.classes, self.boxes = nn.Conv2d(10, 14, 3, padding=1), nn.Conv2d(14, 4, 1), nn.Conv2d(14, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found, above = [], None
        for level, side in zip(self.levels, self.side, strict=True):
            x = F.relu(level(x))
            found.append(side(x))
        scores, boxes = [], []
        for side, smooth in zip(reversed(found), reversed(self.smooth), strict=True):
            above = side if above is None else side + F.interpolate(above, size=side.shape[-2:])
            inside = F.relu(self.tower(smooth(above)))
            scores.append(self.classes(inside).flatten(2))
            boxes.append(self.boxes(inside).exp().flatten(2))
        return {"scores": torch.cat(scores, -1), "boxes": torch.cat(boxes, -1)}


class Segmenter(nn.Module):
    """Spatial pyramid pooling: dilated branches and a global one, concatenated; the skip joins them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.branches = nn.ModuleList(nn.Conv2d(16, 6, 3, padding=rate, dilation=rate) for rate in (1, 2))
        self.whole, self.join = nn.Conv2d(16, 6, 1), nn.Conv2d(18, 10, 1)
        self.skip, self.out = nn.Conv2d(8, 4, 1), nn.Conv2d(14, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-2:]
        first = F.relu(self.stem(x))
        x = F.relu(self.body(first))
        whole = F.interpolate(self.whole(F.adaptive_avg_pool2d(x, 1)), size=x.shape[-2:])
        x = F.relu(self.join(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1)))
        x = torch.cat([self.skip(first), F.interpolate(x, size=first.shape[-2:], mode="bilinear")], dim=1)
        return F.interpolate(self.out(x), size=size, mode="bilinear")


class StateSpace(nn.Module):
    """A selective state-space layer, stepped in plain code: step sizes, inputs and outputs depend on the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.d_state, self.rank, inner = 5, 3, 12
        self.enter, self.inside = nn.Linear(4, 8), nn.Linear(8, 2 * inner)
        self.conv = nn.Conv1d(inner, inner, 3, groups=inner, padding=2)
        self.select, self.step = nn.Linear(inner, self.rank + 2 * self.d_state), nn.Linear(self.rank, inner)
        self.decay, self.direct = nn.Parameter(torch.ones(inner, self.d_state)), nn.Parameter(torch.ones(inner))
        self.outside, self.head = nn.Linear(inner, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        inside, gate = self.inside(x).chunk(2, -1)
        inside = F.silu(self.conv(inside.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        step, put, get = self.select(inside).split([self.rank, self.d_state, self.d_state], -1)
        step = F.softplus(self.step(step))
        state = torch.zeros(x.shape[0], inside.shape[2], self.d_state, device=x.device)
        outputs = []
        for time in range(x.shape[1]):
            keep = torch.exp(-step[:, time, :, None] * self.decay)
            state = keep * state + (step[:, time] * inside[:, time])[..., None] * put[:, time, None, :]
            outputs.append((state * get[:, time, None, :]).sum(-1))
        made = torch.stack(outputs, 1) + self.direct * inside
        return self.head(x + self.outside(made * F.silu(gate)))


class Siamese(nn.Module):
    """One tower for two inputs, compared by a bilinear layer and a cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(6, 14), nn.ReLU(), nn.Linear(14, 9))
        self.compare, self.head = nn.Bilinear(9, 9, 5), nn.Linear(6, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.tower(a), self.tower(b)
        return self.head(torch.cat([F.relu(self.compare(a, b)), F.cosine_similarity(a, b)[:, None]], -1))


class Generated(nn.Module):
    """A network that makes the weights of a layer of another; sizes written into the code keep these whole."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.enter, self.head = nn.Linear(3, 7 * 6), nn.Linear(4, 6), nn.Linear(7, 2)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        weight = self.make(style).view(-1, 7, 6)
        return self.head(F.relu(torch.einsum("boi,bi->bo", weight, self.enter(x))))


class Mirrored(nn.Module):
    """Concatenated ReLU: a convolution's outputs, and beside them their negatives."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(12)
        self.second, self.head = nn.Conv2d(12, 8, 3), nn.Linear(8 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = F.relu(self.norm(torch.cat([x, -x], dim=1)))
        return self.head(F.adaptive_max_pool2d(self.second(x), 2).flatten(1))


def images(*shape: int) -> tuple[Tensor]:
    return (torch.zeros(shape),)


def words(length: int) -> Tensor:
    return torch.zeros(2, length, dtype=torch.long)


HANDWRITTEN = {
    "recurrent": (Recurrent, (words(5),)),
    "channel-shuffle": (ChannelShuffle, images(1, 3, 8, 8)),
    "pixel-shuffle": (PixelShuffle, images(1, 3, 8, 8)),
    "unet-1d": (UNet, images(2, 2, 16)),
    "volumes-3d": (Volumes, images(1, 1, 4, 4, 4)),
    "functional": (Functional, images(1, 3, 8, 8)),
    "attention-modules": (Attention, (torch.zeros(2, 5, 5), torch.zeros(2, 4, 7))),
    "encoder-decoder": (EncoderDecoder, (words(5), words(4))),
    "talking-heads": (TalkingHeads, images(2, 5, 6)),
    "cross-covariance": (CrossCovariance, images(2, 5, 6)),
    "gated-mlp": (GatedMlp, images(2, 5, 6)),
    "experts": (Experts, images(7, 6)),
    "squeeze-excite": (SqueezeExcite, images(1, 3, 8, 8)),
    "split-attention": (SplitAttention, images(1, 3, 8, 8)),
    "weight-norms": (WeightNorms, images(1, 3, 8, 8)),
    "branches": (Branches, images(1, 3, 8, 8)),
    "pyramid": (Pyramid, images(1, 3, 32, 32)),
    "segmenter": (Segmenter, images(1, 3, 32, 32)),
    "state-space": (StateSpace, images(2, 5, 4)),
    "siamese": (Siamese, (torch.zeros(3, 6), torch.zeros(3, 6))),
    "generated": (Generated, (torch.zeros(2, 4), torch.zeros(2, 3))),
    "mirrored": (Mirrored, images(1, 3, 8, 8)),
}
"""Name -> class and example inputs."""
