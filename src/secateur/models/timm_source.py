"""`timm:NAME` or `timm:NAME?depth=3`: any network of timm, whole numbers among its options, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from secateur.models.extras import import_extra
from secateur.models.inputs import Inputs, random_image
from secateur.models.named import Shape
from secateur.spec import ModelError
from secateur.spec.errors import nearest


def build(name: str, num_classes: int | None, shape: Shape | None) -> nn.Module:
    """The network with random weights; nothing is downloaded."""
    name, numbers = _split(name)
    timm = _timm(name)
    options = {**_options(name, num_classes, shape), **numbers}
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ModelError(f"timm cannot build {name!r} with {options or 'its own options'}: {error}") from error


def _split(name: str) -> tuple[str, dict[str, int]]:
    """The name, and the options after a question mark; whole numbers alone, since others may name files to load."""
    name, _, rest = name.partition("?")
    options: dict[str, int] = {}
    for part in filter(None, rest.split("&")):
        key, _, value = part.partition("=")
        if not key.isidentifier() or not value.isdecimal():
            raise ModelError(f"timm:{name}: got the option {part!r}, expected NAME=WHOLE NUMBER, as in ?depth=3&dim=96")
        options[key] = int(value)
    return name, options


def _options(name: str, num_classes: int | None, shape: Shape | None) -> dict[str, Any]:
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if shape is None:
        return options
    if shape[0] != input_shape(name)[0]:
        options["in_chans"] = shape[0]
    if getattr(_timm(name).get_pretrained_cfg(name), "fixed_input_size", False):
        options["img_size"] = shape[1:]
    return options


def input_shape(name: str) -> Shape:
    """The shape of image that the published weights are evaluated on."""
    name, _ = _split(name)
    config = _timm(name).get_pretrained_cfg(name)
    return config.input_size if config is not None else (3, 224, 224)


def example_inputs(name: str, shape: Shape | None) -> Inputs:
    """One random image."""
    return (random_image(shape or input_shape(name)),)


def origins(model: nn.Module) -> Iterator[tuple[str, int | None, Shape | None]]:
    """Names, classes and shapes of image that `build` may have been called with for this network."""
    config: Any = getattr(model, "pretrained_cfg", None)
    if not type(model).__module__.startswith("timm.") or not isinstance(config, dict):
        return
    name, classes = str(config.get("architecture")), getattr(model, "num_classes", None) or None
    yield name, classes, None
    channels = next((parameter.shape[1] for parameter in model.parameters() if parameter.dim() == 4), None)
    _, height, width = config.get("input_size", (3, 224, 224))
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or (height, width)
    for depth in ("", *_depths(model)):
        if channels is not None:
            yield name + depth, classes, (channels, *size)


def _depths(model: nn.Module) -> Iterator[str]:
    """The number of blocks, as an option: networks are built with fewer of them to try things out."""
    for holder in (model, getattr(model, "encoder", None)):
        blocks = getattr(holder, "blocks", None)
        if isinstance(blocks, nn.Sequential | nn.ModuleList):
            yield f"?depth={len(blocks)}"


def _timm(name: str) -> Any:
    timm = import_extra("timm")
    if not timm.is_model(name):
        raise ModelError(f"timm has no model {name!r}; did you mean: {nearest(name, timm.list_models())}?")
    return timm
