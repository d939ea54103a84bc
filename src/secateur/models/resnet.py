"""ResNets for CIFAR with parameter-free shortcuts (option A of He et al. 2015, section 4.2).

Module names are those of the widely used `pytorch_resnet_cifar10` weights, so these load strictly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models.named import MODELS, NamedModel, Shape

WIDTHS = (16, 32, 64)
"""Channels of the three stages."""


class PaddedShortcut(nn.Module):
    """Every second pixel, zero channels before and after; `(N, C, H, W)` to `(N, before + C + after, H/2, W/2)`."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before = before
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm beside a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity() if stride == 1 else _widen(in_channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of `blocks` basic blocks; `(N, C, H, W)` to `(N, num_classes)`."""

    def __init__(self, blocks: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.conv1 = nn.Conv2d(in_channels, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.layer1 = _stage(first, first, blocks, stride=1)
        self.layer2 = _stage(first, second, blocks, stride=2)
        self.layer3 = _stage(second, third, blocks, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(third, num_classes)
        self.apply(kaiming)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(self.pool(x), 1))


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    rest = (BasicBlock(channels, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(in_channels, channels, stride), *rest)


def _widen(in_channels: int, channels: int) -> PaddedShortcut:
    before = (channels - in_channels) // 2
    return PaddedShortcut(before, channels - in_channels - before)


def kaiming(module: nn.Module) -> None:
    """Initial weights for activations of the kind of ReLU (He et al. 2015), at which no signal dies."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)


def _builder(blocks: int) -> Callable[[int, Shape], nn.Module]:
    return lambda num_classes, input_shape: ResNet(blocks, num_classes, input_shape[0])


for _depth in (20, 32, 44, 56, 110):
    MODELS.register(f"resnet{_depth}", f"ResNet-{_depth} with option-A shortcuts for 3x32x32 images")(
        NamedModel(_builder((_depth - 2) // 6), (3, 32, 32))
    )
