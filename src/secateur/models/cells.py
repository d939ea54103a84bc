"""Networks of cells, built from a genotype.

Each operator maps `(N, channels, H, W)` to `(N, out, H / stride, W / stride)`, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from secateur.models.genotype import INPUTS, KEEPERS, STEP, Cell, Edge, Genotype, Join, Node
from secateur.models.resnet import kaiming

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


class Unit(nn.Sequential):
    """A convolution with its norm and activation, in the order of the genotype."""

    def __init__(
        self,
        style: Genotype,
        channels: int,
        out: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        padding, bias = dilation * (size // 2), style.norm == "none"
        conv = nn.Conv2d(channels, out, size, stride, padding, dilation, groups, bias)
        layers = [conv, _norm(style, out)]
        layers.insert(0 if style.activates_first else 2, ACTIVATIONS[style.activation]())
        super().__init__(*layers)


def _norm(style: Genotype, channels: int) -> nn.Module:
    if style.norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if style.norm == "batch" else nn.GroupNorm(STEP, channels)


class Separable(nn.Sequential):
    """A depthwise convolution, then a pointwise one."""

    def __init__(self, style: Genotype, channels: int, out: int, size: int, *, stride: int) -> None:
        depthwise = Unit(style, channels, channels, size, stride=stride, groups=channels)
        super().__init__(depthwise, Unit(style, channels, out, 1))


class Subsample(nn.Module):
    """Every so-manieth pixel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride]


class SqueezeExcite(nn.Module):
    """Each channel times a factor that the means of all decide (Hu et al. 2018)."""

    def __init__(self, style: Genotype, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Linear(channels, channels // 2)
        self.activation = ACTIVATIONS[style.activation]()
        self.expand = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        factor = torch.sigmoid(self.expand(self.activation(self.reduce(x.mean((2, 3))))))
        return x * factor[:, :, None, None]


def _convolution(name: str, style: Genotype, channels: int, out: int, stride: int) -> nn.Module:
    kind, _, size = name.partition(" ")
    side = int(size[0])
    if kind == "separable":
        return Separable(style, channels, out, side, stride=stride)
    options = {"dilation": 2} if kind == "dilated" else {"groups": STEP} if kind == "grouped" else {}
    return Unit(style, channels, out, side, stride=stride, **options)


def _keeper(name: str, style: Genotype, channels: int, stride: int) -> nn.Module:
    if name == "max pool":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "average pool":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    smaller = nn.Identity() if stride == 1 else Subsample(stride)
    return smaller if name == "skip" else nn.Sequential(smaller, SqueezeExcite(style, channels))


def _operator(edge: Edge, style: Genotype, channels: int, stride: int) -> nn.Module:
    if edge.operator not in KEEPERS:
        return _convolution(edge.operator, style, channels, edge.width, stride)
    kept = _keeper(edge.operator, style, channels, stride)
    return kept if channels == edge.width else nn.Sequential(kept, Unit(style, channels, edge.width, 1))


def _joined(parts: Sequence[Tensor], join: Join) -> Tensor:
    return reduce(add, parts) if join == "sum" else torch.cat(list(parts), 1)


class NodeModule(nn.Module):
    """What leads to one node of a cell."""

    def __init__(self, node: Node, cell: Cell, style: Genotype) -> None:
        super().__init__()
        self.node = node
        halving = 2 if cell.reduces else 1
        self.operators = nn.ModuleList(
            _operator(edge, style, cell.widths[edge.source], halving if edge.source < INPUTS else 1)
            for edge in node.edges
        )

    def forward(self, values: Sequence[Tensor]) -> Tensor:
        edges = zip(self.node.edges, self.operators, strict=True)
        return _joined([operator(values[edge.source]) for edge, operator in edges], self.node.join)


class CellModule(nn.Module):
    """One cell: what the two before it made, `(N, channels, H, W)` each, to its output."""

    def __init__(self, cell: Cell, style: Genotype, given: Sequence[int], strides: Sequence[int]) -> None:
        """given: channels of the two; strides: what brings both to the height and width of the later."""
        super().__init__()
        self.cell = cell
        self.inputs = nn.ModuleList(
            Unit(style, channels, cell.width, 1, stride=stride) if node in cell.read else nn.Identity()
            for node, (channels, stride) in enumerate(zip(given, strides, strict=True))
        )
        self.nodes = nn.ModuleList(NodeModule(node, cell, style) for node in cell.nodes)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        values = [layer(x) for layer, x in zip(self.inputs, (before, last), strict=True)]
        for node in self.nodes:
            values.append(node(values))
        return _joined([values[end] for end in self.cell.ends], self.cell.join)


class CellNetwork(nn.Module):
    """A stem, cells, the mean over all pixels and a linear layer; `(N, C, H, W)` to `(N, num_classes)`."""

    def __init__(self, genotype: Genotype, num_classes: int, channels: int) -> None:
        super().__init__()
        stem = nn.Conv2d(channels, genotype.width, 3, padding=1, bias=genotype.norm == "none")
        self.stem = nn.Sequential(stem, _norm(genotype, genotype.width))
        self.cells = nn.ModuleList()
        widths, strides = [genotype.width] * INPUTS, [1] * INPUTS
        for cell in genotype.cells:
            self.cells.append(CellModule(cell, genotype, widths, strides))
            widths, strides = [widths[1], cell.out_width], [2 if cell.reduces else 1, 1]
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(widths[1], num_classes)
        self.apply(kaiming)

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        return self.linear(torch.flatten(self.pool(last), 1))
