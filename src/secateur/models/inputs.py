"""Random inputs to run a model on: one example, the same on every call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from secateur.models.named import Shape

Inputs = tuple[Any, ...] | dict[str, Any]
"""Positional or keyword arguments of `forward`; tensors, lists of tensors for detectors, or switches."""


def random_image(shape: tuple[int, ...]) -> Tensor:
    """`(1, *shape)` float32, standard normal."""
    return torch.randn(1, *shape, generator=generator())


def generator() -> torch.Generator:
    """A fresh random generator with a fixed seed."""
    return torch.Generator().manual_seed(0)


def image_shape(size: int | tuple[int, ...] | list[int], channels: int = 3) -> Shape:
    """Shape of an image from the size that a configuration gives: a side, or height and width."""
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    return channels, height, width
