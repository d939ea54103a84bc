"""Random networks with hand-written forwards, from a seed: what every promise of the library is tried on.

Weights, norm statistics and norm parameters are random, so that no two channels are alike by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secateur.testing.image_blocks import IMAGE_BLOCKS, Block, norm_2d
from secateur.testing.sequence_blocks import SEQUENCE_BLOCKS, norm_1d

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Network:
    """A random network in eval mode, inputs for it, and what of it ought to be prunable."""

    name: str
    model: nn.Module
    inputs: tuple[Tensor, ...]
    free: tuple[str, ...]
    """Tensors whose dimension 0 holds an axis that the engine is expected to let go."""


class ImageNet(nn.Module):
    """A stem, blocks, and a head that flattens."""

    def __init__(self, rng: Random, blocks: list[type[Block]]) -> None:
        super().__init__()
        width = rng.choice([4, 8, 12])
        self.stem, self.norm = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList()
        for block in blocks:
            out = width if rng.random() < 0.4 else rng.choice([4, 8, 12])
            self.blocks.append(block(rng, width, out))
            width = out
        self.last_norm = norm_2d(rng, width)
        self.space, self.how = rng.choice([1, 1, 2, 3]), rng.choice(["flatten", "view", "reshape", "both"])
        self.pool = nn.AdaptiveAvgPool2d(self.space)
        inside = width * (self.space**2 + (self.how == "both"))
        self.head = nn.Sequential(nn.Linear(inside, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.1), nn.Linear(9, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = F.silu(self.last_norm(x))
        pooled = self.pool(x)
        if self.how == "flatten":
            flat = torch.flatten(pooled, 1)
        elif self.how == "view":
            flat = pooled.contiguous().view(pooled.size(0), -1)
        elif self.how == "reshape":
            flat = pooled.reshape(x.shape[0], x.shape[1] * self.space**2)
        else:
            flat = torch.cat([pooled.flatten(1), x.amax((2, 3))], 1)
        return self.head(flat)


class TextNet(nn.Module):
    """Embeddings with positions, a class token at times, blocks, and a head that may share the embedding's weight."""

    def __init__(self, rng: Random, blocks: list[type[Block]]) -> None:
        super().__init__()
        width, count = rng.choice([8, 12, 16]), 6
        self.tokens = nn.Embedding(11, width)
        self.first = nn.Parameter(torch.zeros(1, 1, width)) if rng.random() < 0.4 else None
        self.positions = nn.Parameter(torch.zeros(1, 16, width)) if rng.random() < 0.5 else nn.Embedding(16, width)
        count += self.first is not None
        self.blocks = nn.ModuleList(block(rng, width, count) for block in blocks)
        self.norm = norm_1d(rng, width)
        self.head = nn.Linear(width, 11, bias=False)
        self.tied = rng.random() < 0.5
        if self.tied:
            self.head.weight = self.tokens.weight

    def forward(self, index: Tensor) -> Tensor:
        x = self.tokens(index)
        if self.first is not None:
            x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1)
        if isinstance(self.positions, nn.Embedding):
            x = x + self.positions(torch.arange(x.shape[1], device=index.device))
        else:
            x = x + self.positions[:, : x.shape[1]]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x if self.tied else x[:, 0] + x.mean(1))


class PatchNet(nn.Module):
    """Convolutional blocks, then patches as a sequence."""

    def __init__(self, rng: Random, images: list[type[Block]], sequences: list[type[Block]]) -> None:
        super().__init__()
        width, wide = rng.choice([4, 8]), rng.choice([8, 12])
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.images = nn.ModuleList(block(rng, width, width) for block in images)
        self.pool, self.patch = nn.AdaptiveMaxPool2d(4), nn.Conv2d(width, wide, 2, stride=2)
        self.sequences = nn.ModuleList(block(rng, wide, 4) for block in sequences)
        self.norm, self.head = norm_1d(rng, wide), nn.Linear(wide, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.stem(x))
        for block in self.images:
            x = block(x)
        x = self.patch(self.pool(x)).flatten(2).transpose(1, 2)
        for block in self.sequences:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


class VolumeNet(nn.Module):
    """Residual convolutions over one or three dimensions."""

    def __init__(self, rng: Random, rank: int) -> None:
        super().__init__()
        conv = nn.Conv1d if rank == 1 else nn.Conv3d
        norm = rng.choice([nn.BatchNorm1d, nn.InstanceNorm1d] if rank == 1 else [nn.BatchNorm3d, nn.InstanceNorm3d])
        width, inner = rng.choice([4, 6, 8]), rng.randint(3, 9)
        groups = rng.choice([1, 2])
        self.stem = conv(2, width, 3, padding=1)
        self.up, self.down = conv(width, 2 * inner, 1), conv(2 * inner, width, 3, padding=1, groups=groups)
        self.norm1, self.norm2 = norm(2 * inner, affine=True), norm(width, affine=True)
        self.deep = (nn.ConvTranspose1d if rank == 1 else nn.ConvTranspose3d)(width, inner, 2, stride=2)
        self.head = conv(inner, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.norm2(self.down(F.relu(self.norm1(self.up(x)))))
        return self.head(F.leaky_relu(self.deep(x)))


class GraphNet(nn.Module):
    """Any acyclic graph of convolutions, sums, products and concatenations, interpreted from a list."""

    def __init__(self, rng: Random, length: int) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[int, ...]]] = []
        self.layers = nn.ModuleList()
        widths = [rng.randint(4, 8)]
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        for _ in range(length):
            self._grow(rng, widths)
        self.head = nn.Conv2d(widths[-1] + widths[-2], 4, 1)

    def _grow(self, rng: Random, widths: list[int]) -> None:
        kind = rng.choice(["conv", "conv", "add", "cat", "gate", "norm"])
        one, two = rng.randrange(len(widths)), len(widths) - 1
        layer: nn.Module = nn.Identity()
        width = widths[two]
        if kind == "conv":
            width = rng.randint(4, 8)
            layer = nn.Conv2d(widths[two], width, 3, padding=1)
        elif kind == "norm":
            layer = nn.BatchNorm2d(width)
        elif kind == "cat":
            width = widths[one] + widths[two]
        elif widths[one] != width:
            layer = nn.Conv2d(widths[one], width, 1)
        self.steps.append((kind, (one, two)))
        self.layers.append(layer)
        widths.append(width)

    def forward(self, x: Tensor) -> Tensor:
        values = [F.relu(self.stem(x))]
        for (kind, (one, two)), layer in zip(self.steps, self.layers, strict=True):
            if kind in ("conv", "norm"):
                values.append(F.elu(layer(values[two])))
            elif kind == "cat":
                values.append(torch.cat([values[one], values[two]], 1))
            elif kind == "add":
                values.append(values[two] + layer(values[one]))
            else:
                values.append(values[two] * torch.sigmoid(layer(values[one])))
        return self.head(torch.cat([values[-1], values[-2]], 1)).mean((2, 3))


def _image(rng: Random, blocks: list[type[Block]]) -> tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...]]:
    model = ImageNet(rng, blocks)
    return model, (torch.randn(2, 3, 9, 9),), ("head.0.weight", *_free(model, "blocks"))


def _text(rng: Random, blocks: list[type[Block]]) -> tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...]]:
    model = TextNet(rng, blocks)
    return model, (torch.randint(0, 11, (2, 6)),), _free(model, "blocks")


def _free(model: nn.Module, name: str) -> tuple[str, ...]:
    blocks = model.get_submodule(name)
    return tuple(
        f"{name}.{i}.{tensor}" for i, block in enumerate(blocks.children()) for tensor in getattr(block, "free", ())
    )


Made = tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...]]


def _some(rng: Random, blocks: tuple[type[Block], ...], seed: int, count: int) -> list[type[Block]]:
    """Blocks in turn by seed, so that consecutive seeds meet each of them; the rest at random."""
    return [blocks[seed % len(blocks)], *rng.choices(blocks, k=count - 1)]


def _make_image(rng: Random, seed: int) -> Made:
    return _image(rng, _some(rng, IMAGE_BLOCKS, seed, rng.randint(1, 3)))


def _make_text(rng: Random, seed: int) -> Made:
    return _text(rng, _some(rng, SEQUENCE_BLOCKS, seed, rng.randint(1, 3)))


def _make_patch(rng: Random, seed: int) -> Made:
    model = PatchNet(rng, _some(rng, IMAGE_BLOCKS, seed, 1), _some(rng, SEQUENCE_BLOCKS, seed, 2))
    return model, (torch.randn(2, 3, 12, 12),), (*_free(model, "images"), *_free(model, "sequences"))


def _make_volume(rng: Random, seed: int) -> Made:
    rank = 1 + 2 * (seed % 2)
    return VolumeNet(rng, rank), (torch.randn(2, 2, *[4] * rank),), ("stem.weight", "up.weight")


def _make_graph(rng: Random, seed: int) -> Made:  # noqa: ARG001 (all templates have these arguments)
    return GraphNet(rng, rng.randint(4, 10)), (torch.randn(2, 3, 6, 6),), ("stem.weight",)


TEMPLATES: Mapping[str, Callable[[Random, int], Made]] = {
    "image": _make_image,
    "text": _make_text,
    "patch": _make_patch,
    "graph": _make_graph,
    "volume": _make_volume,
}
"""Kinds of networks, by name."""

_TURN = ("image", "text", "patch", "image", "graph", "image", "text", "image", "patch", "volume")


def random_network(seed: int, template: str | None = None) -> Network:
    """The network of a seed; the random state of torch is not touched.

    template: one of `TEMPLATES`; by default they take turns.
    """
    name = _TURN[seed % len(_TURN)] if template is None else template
    rng = Random(f"{name} {seed}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(40))
        turn = (
            seed
            if template is not None
            else seed // len(_TURN) * _TURN.count(name) + _TURN[: seed % len(_TURN)].count(name)
        )
        model, inputs, free = TEMPLATES[name](rng, turn)
        randomise(model)
    return Network(f"{name}-{seed} {_shown(model)}", model.eval(), inputs, free)


def single_block(block: type[Block], seed: int) -> Network:
    """A network around one block."""
    rng = Random(f"{block.__name__} {seed}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.getrandbits(40))
        model, inputs, free = (_image if block in IMAGE_BLOCKS else _text)(rng, [block])
        randomise(model)
    return Network(f"{block.__name__}-{seed}", model.eval(), inputs, free)


def _shown(model: nn.Module) -> str:
    return "+".join(type(module).__name__ for module in model.modules() if isinstance(module, Block))


def randomise(model: nn.Module) -> None:
    """Random values in every parameter and norm statistic, at scales at which no signal dies."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and min(parameter.shape[:2]) > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, (1.5 / fan_in) ** 0.5)
            elif name.endswith(("weight", "gamma", "scale")):
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0, 0.3)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                module.running_mean.normal_(0, 0.3)
                if module.running_var is not None:
                    module.running_var.uniform_(0.5, 2.0)


def networks(*, templates: tuple[str, ...] = tuple(TEMPLATES)) -> SearchStrategy[Network]:
    """A hypothesis strategy of random networks."""
    from hypothesis import strategies as st

    return st.builds(random_network, st.integers(0, 2**20), st.sampled_from(templates))
