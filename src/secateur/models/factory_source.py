"""`package.module:factory`: a callable of the user's own code that returns the network."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from torch import nn

from secateur.models.inputs import Inputs, random_image
from secateur.models.named import Shape
from secateur.spec import ModelError
from secateur.spec.errors import nearest


def build(name: str, num_classes: int | None, shape: Shape | None) -> nn.Module:
    """Call the factory; `num_classes` and `input_shape` are passed where it has parameters of these names."""
    factory = _load(name)
    offered = {"num_classes": num_classes, "input_shape": shape}
    accepted = inspect.signature(factory).parameters
    model = factory(**{key: value for key, value in offered.items() if value is not None and key in accepted})
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} returned {type(model).__name__}, expected a torch.nn.Module")
    return model


def input_shape(name: str) -> Shape | None:
    """None: only the user's code knows."""


def example_inputs(name: str, shape: Shape | None) -> Inputs:
    """One random image of the given shape."""
    if shape is None:
        raise ModelError(
            f"the inputs of {name} are not known; give the shape of one image, for example input_shape=(3, 32, 32)"
        )
    return (random_image(shape),)


def _load(name: str) -> Callable[..., Any]:
    module_name, _, factory_name = name.partition(":")
    _make_working_directory_importable()
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ModelError(
            f"cannot import {module_name!r} for the model {name!r}: {error}; expected package.module:factory with a "
            "module that is installed or lies in the working directory, or one of torchvision:NAME, timm:NAME, hf:DIR, "
            "nas:SEED"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelError(
            f"module {module_name!r} has no callable {factory_name!r}; did you mean: {nearest(factory_name, known)}?"
        )
    return factory


def _make_working_directory_importable() -> None:
    """The working directory leads the search for modules, as under `python -m`, and from now on: the user's code may
    import more of itself later, and processes that are started with this path read networks of its classes."""
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
