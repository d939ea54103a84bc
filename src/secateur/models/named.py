"""Built-in networks by name; plug-ins add theirs through the entry point group `secateur.models`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from secateur.spec import Registry

Shape = tuple[int, int, int]
"""Channels, height and width of one image."""


@dataclass(frozen=True)
class NamedModel:
    """How to build a network, and the images it was made for."""

    build: Callable[[int, Shape], nn.Module]
    """`build(num_classes, input_shape)`; the channels of the first layer are `input_shape[0]`."""
    input_shape: Shape
    """The natural shape of one image."""
    num_classes: int = 10


MODELS: Registry[NamedModel] = Registry("models")
