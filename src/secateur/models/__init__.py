"""Networks by name: built in, from torchvision, timm or a local Hugging Face folder, made at random, or from the user's
own module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn

from secateur.models import builtin_source, factory_source, hf_source, nas_source, timm_source, torchvision_source
from secateur.models.inputs import Inputs
from secateur.models.named import MODELS, NamedModel, Shape
from secateur.models.tokenizer import Tokenizer, load_tokenizer, tokenizer_files
from secateur.models.weights import load_weights
from secateur.spec import ModelError, SecateurError

__all__ = [
    "MODELS",
    "Inputs",
    "NamedModel",
    "Shape",
    "Tokenizer",
    "build_model",
    "example_inputs",
    "list_models",
    "load_tokenizer",
    "load_weights",
    "natural_input_shape",
    "possible_origins",
    "tokenizer_files",
]


class Source(Protocol):
    """Where models of one prefix come from; implemented by the modules `*_source`."""

    def build(self, name: str, num_classes: int | None, shape: Shape | None) -> nn.Module: ...

    def input_shape(self, name: str) -> Shape | None: ...

    def example_inputs(self, name: str, shape: Shape | None) -> Inputs: ...


SOURCES: dict[str, Source] = {
    "torchvision": torchvision_source,
    "timm": timm_source,
    "hf": hf_source,
    "nas": nas_source,
}


def build_model(
    name: str, *, num_classes: int | None = None, input_shape: Shape | None = None, seed: int = 0
) -> nn.Module:
    """The model of that name in train mode, with random weights from `seed`; hf:DIR loads the folder's own.

    `name` is a built-in (`list_models()`), `torchvision:NAME`, `timm:NAME`, `hf:DIR`, `nas:SEED` or
    `package.module:factory`. `num_classes` and `input_shape` (channels, height, width) default to what the model was
    made for. The global random state is left as it was. Raises ModelError for an unknown name, MissingExtraError where
    a library is missing.
    """
    source, rest = _resolve(name)
    if num_classes is not None and num_classes < 1:
        raise ModelError(f"{name} cannot have {num_classes} classes; give at least 1")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            return source.build(rest, num_classes, input_shape).train()
        except (RuntimeError, MemoryError, OverflowError, TypeError, ValueError, SystemExit) as error:
            if isinstance(error, SecateurError):
                raise
            asked = f"num_classes={num_classes}, input_shape={input_shape}"
            raise ModelError(f"{name} cannot be built with {asked}: {type(error).__name__}: {error}") from error


def natural_input_shape(name: str) -> Shape | None:
    """Channels, height and width of the images that the model was made for; None where it is not known or no image."""
    source, rest = _resolve(name)
    return source.input_shape(rest)


def example_inputs(name: str, *, input_shape: Shape | None = None) -> Inputs:
    """Inputs of one forward with batch 1, the same on every call: positional in a tuple, or by keyword in a dict."""
    source, rest = _resolve(name)
    return source.example_inputs(rest, input_shape)


def list_models() -> list[tuple[str, str]]:
    """(name, description) of each built-in model, in order of name."""
    return list(MODELS.describe())


def possible_origins(model: nn.Module) -> Iterator[dict[str, Any]]:
    """Keyword arguments of `build_model` with which this network of torchvision or timm may have been built; only a
    comparison with what they build can tell."""
    for prefix, source in (("torchvision", torchvision_source), ("timm", timm_source)):
        for name, num_classes, shape in source.origins(model):
            found = {"name": f"{prefix}:{name}", "num_classes": num_classes, "input_shape": shape}
            yield {key: value for key, value in found.items() if value is not None}


def _resolve(name: str) -> tuple[Source, str]:
    prefix, colon, rest = name.partition(":")
    if not colon:
        return builtin_source, name
    return (SOURCES[prefix], rest) if prefix in SOURCES else (factory_source, name)
