"""Models by plain name: the built-in ones and those of plug-ins."""

from __future__ import annotations

from torch import nn

from secateur.models import lenet, resnet, vgg
from secateur.models.inputs import Inputs, random_image
from secateur.models.named import MODELS, NamedModel, Shape
from secateur.spec import ModelError
from secateur.spec.errors import nearest

__all__ = ["build", "example_inputs", "input_shape", "lenet", "resnet", "vgg"]


def build(name: str, num_classes: int | None, shape: Shape | None) -> nn.Module:
    """The network with random weights."""
    named = _find(name)
    return named.build(num_classes or named.num_classes, shape or named.input_shape)


def input_shape(name: str) -> Shape:
    """The shape of image that the network was made for."""
    return _find(name).input_shape


def example_inputs(name: str, shape: Shape | None) -> Inputs:
    """One random image."""
    return (random_image(shape or input_shape(name)),)


def _find(name: str) -> NamedModel:
    known = [known for known, _ in MODELS.describe()]
    if name not in known:
        raise ModelError(
            f"unknown model {name!r}; did you mean: {nearest(name, known)}? Other sources: torchvision:NAME, "
            "timm:NAME, hf:DIR, nas:SEED, package.module:factory"
        )
    return MODELS.get(name)
