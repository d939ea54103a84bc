"""VGG networks with BatchNorm for 32x32 images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from secateur.models.named import MODELS, NamedModel, Shape
from secateur.spec import ModelError

Layout = Sequence[int | Literal["pool"]]
"""Widths of the convolutions in order, with `pool` where the image is halved."""

VGG9: Layout = (32, 64, "pool", 128, 128, "pool", 256, 256, "pool")
VGG11: Layout = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")
VGG16: Layout = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool"),
    *(512, 512, 512, "pool", 512, 512, 512, "pool"),
)
VGG19: Layout = (
    *(64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool"),
    *(512, 512, 512, 512, "pool", 512, 512, 512, 512, "pool"),
)


class VGG(nn.Module):
    """3x3 convolutions with BatchNorm, then one linear layer; `(N, C, H, W)` to `(N, num_classes)`."""

    def __init__(self, layout: Layout, num_classes: int, input_shape: Shape) -> None:
        super().__init__()
        _check_size(layout, input_shape)
        self.features = _features(layout, input_shape[0])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_last_width(layout), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class VGG9BN(nn.Module):
    """Six convolutions and three linear layers with dropout; `(N, C, H, W)` to `(N, num_classes)`."""

    def __init__(self, num_classes: int, input_shape: Shape) -> None:
        super().__init__()
        _check_size(VGG9, input_shape)
        shrink = 2 ** VGG9.count("pool")
        flat = _last_width(VGG9) * (input_shape[1] // shrink) * (input_shape[2] // shrink)
        hidden = 512
        self.features = _features(VGG9, input_shape[0])
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(flat, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def _features(layout: Layout, in_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for entry in layout:
        if entry == "pool":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(in_channels, entry, 3, padding=1, bias=False), nn.BatchNorm2d(entry), nn.ReLU()]
        in_channels = entry
    return nn.Sequential(*layers)


def _last_width(layout: Layout) -> int:
    return next(entry for entry in reversed(layout) if entry != "pool")


def _check_size(layout: Layout, input_shape: Shape) -> None:
    smallest = 2 ** layout.count("pool")
    if min(input_shape[1:]) < smallest:
        raise ModelError(
            f"this VGG got images of {input_shape[1]}x{input_shape[2]} pixels, needs at least {smallest}x{smallest}; "
            "choose a larger input_shape"
        )


def _builder(layout: Layout) -> Callable[[int, Shape], nn.Module]:
    return lambda num_classes, input_shape: VGG(layout, num_classes, input_shape)


MODELS.register("vgg9_bn", "VGG-9 (32-64-128-128-256-256, three linear layers) for 3x32x32 images")(
    NamedModel(VGG9BN, (3, 32, 32))
)
for _name, _layout in {"vgg11_bn": VGG11, "vgg16_bn": VGG16, "vgg19_bn": VGG19}.items():
    MODELS.register(
        _name, f"{_name.upper().replace('_BN', '')} with BatchNorm and one linear layer for 3x32x32 images"
    )(NamedModel(_builder(_layout), (3, 32, 32)))
