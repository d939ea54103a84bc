"""`torchvision:NAME`: any network of torchvision, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from secateur.models.extras import import_extra
from secateur.models.inputs import Inputs, image_shape, random_image
from secateur.models.named import Shape
from secateur.spec import ModelError
from secateur.spec.errors import nearest

FRAMES = 16
"""Frames of the example clip for video networks."""


def build(name: str, num_classes: int | None, shape: Shape | None) -> nn.Module:
    """The network with random weights; nothing is downloaded."""
    options = _options(name, num_classes, shape)
    try:
        return import_extra("torchvision.models").get_model(name, **options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"torchvision cannot build {name!r} with {options}: {error}") from error


def _options(name: str, num_classes: int | None, shape: Shape | None) -> dict[str, Any]:
    if shape is not None and shape[0] != 3:
        raise ModelError(f"torchvision:{name} reads 3 channels, got input_shape {shape}; timm:NAME takes other numbers")
    options: dict[str, Any] = {"weights": None}
    if num_classes is not None:
        options["num_classes"] = num_classes
    if shape is not None and name.startswith("vit_"):
        options["image_size"] = shape[1]
    if _kind(name) in ("detection", "segmentation"):
        options["weights_backbone"] = None
    if "googlenet" in name or "inception" in name:
        options["init_weights"] = False  # their truncated normal takes minutes
    return options


def input_shape(name: str) -> Shape | None:
    """The shape of image that the published weights are evaluated on; None for other inputs than one image."""
    if _kind(name) in ("video", "optical_flow"):
        return None
    return image_shape(_crop_size(name))


def example_inputs(name: str, shape: Shape | None) -> Inputs:
    """One random image; a list with one for detectors, a clip for video networks, two images for optical flow."""
    kind = _kind(name)
    if kind == "video":
        channels, height, width = shape or image_shape(_crop_size(name))
        return (random_image((channels, FRAMES, height, width)),)
    if kind == "optical_flow":
        image = random_image(shape or (3, 128, 128))
        return (image, image.flip(3))
    image = random_image(shape or image_shape(_crop_size(name)))
    return ([image[0]],) if kind == "detection" else (image,)


def _kind(name: str) -> str:
    models = import_extra("torchvision.models")
    if name not in models.list_models():
        raise ModelError(f"torchvision has no model {name!r}; did you mean: {nearest(name, models.list_models())}?")
    package = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
    return package.partition(".")[0]


def _crop_size(name: str) -> int | list[int]:
    weights = list(import_extra("torchvision.models").get_model_weights(name))
    if not weights:
        return 224
    return getattr(weights[0].transforms(), "crop_size", 224)


def origins(model: nn.Module) -> Iterator[tuple[str, int | None, Shape | None]]:
    """Names, classes and shapes of image that `build` may have been called with for this network."""
    defined_in = type(model).__module__
    if not defined_in.startswith("torchvision.models."):
        return
    models = import_extra("torchvision.models")
    classes = [parameter.shape[0] for parameter in model.parameters()][-1:]
    side = getattr(model, "image_size", None)
    for name in models.list_models():
        if models.get_model_builder(name).__module__ == defined_in:
            yield from ((name, count, None) for count in (None, *classes))
            if isinstance(side, int):
                yield from ((name, count, (3, side, side)) for count in (None, *classes))
