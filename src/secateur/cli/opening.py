"""From MODEL and `--data` to a network, its example inputs and its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from secateur.cli.options import DataOptions, ModelOptions
from secateur.cli.session import unpacked
from secateur.data import ImageSet, Split, TextSet, open_data, open_text
from secateur.loading import load
from secateur.models import (
    Inputs,
    Shape,
    build_model,
    example_inputs,
    list_models,
    load_tokenizer,
    load_weights,
    natural_input_shape,
)
from secateur.sparse.torch_prune import take_over_masks
from secateur.spec import DataError, ModelError, SecateurError, StoreError
from secateur.store import is_safe, read_source
from secateur.train.outputs import logits_of


@dataclass(frozen=True)
class Target:
    """MODEL, looked up but not built: what to build it from, and the images that it reads."""

    name: str
    """For `build_model`."""
    folder: Path | None
    """Where its weights and plans are, for a folder that Secateur saved or a container of one."""
    input_shape: Shape | None
    """None where only the data can tell."""
    asked_shape: Shape | None
    """What the user or the folder asked for, as opposed to the model's natural shape."""
    num_classes: int | None
    weights: Path | None
    seed: int
    device: str

    @property
    def is_trained(self) -> bool:
        """Whether its weights come from somewhere, as opposed to random ones."""
        return self.folder is not None or self.weights is not None or self.name.startswith("hf:")

    def images(self, options: DataOptions, split: str) -> ImageSet:
        """One split of `--data`, in the shape that the model reads."""
        return open_data(
            _demanded(options), cast(Split, split), input_shape=self.input_shape, limit=options.limit, seed=options.seed
        )

    def examples(self, options: DataOptions, split: str) -> ImageSet | TextSet:
        """One split of `--data`: images, or text in the tokens that the model reads."""
        source, _, path = _demanded(options).partition(":")
        if source != "text" or not path:
            return self.images(options, split)
        tokenizer = load_tokenizer(self.name)
        length = tokenizer.length(options.sequence_length)
        return open_text(
            path, tokenizer.encode, cast(Split, split), length=length, limit=options.limit, seed=options.seed
        )

    def build(self, data: ImageSet | TextSet | None = None) -> Opened:
        """The network, with as many classes as the images have where nobody said otherwise.

        Raises ModelError where it does not give one score per class of the data.
        """
        images = data if isinstance(data, ImageSet) else None
        own_classes = self.folder is not None or self.name.startswith("hf:")
        classes = len(images.classes) if images is not None and self.num_classes is None and not own_classes else None
        num_classes = self.num_classes if classes is None else classes
        shape = self.input_shape or (images.input_shape if images is not None else None)
        build_shape = self.asked_shape or (shape if self.input_shape is None else None)
        model = build_model(self.name, num_classes=num_classes, input_shape=build_shape, seed=self.seed)
        if self.folder is not None:
            model = load(self.folder, model)
        if self.weights is not None:
            take_over_masks(model, load_weights(model, self.weights))
        model = model.eval().to(self.device)
        if images is not None:
            _check_classes(model, images, self.name)
        source = {"name": self.name, "num_classes": num_classes, "input_shape": list(shape) if shape else None}
        inputs = example_inputs(self.name, input_shape=shape)
        return Opened(model, inputs, {key: value for key, value in source.items() if value is not None})


@dataclass(frozen=True)
class Opened:
    """A network that is ready to be used."""

    model: nn.Module
    """In eval mode, on the device that was asked for."""
    inputs: Inputs
    """Of one forward, batch 1."""
    source: dict[str, Any]
    """How to build it again, for the manifest of a folder."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.model.parameters()).device


def _demanded(options: DataOptions) -> str:
    if options.data is None:
        raise DataError("no data given; name some with --data, for example --data digits (secateur list data)")
    return options.data


def look_up(options: ModelOptions) -> Target:
    """Find out what MODEL is; builds nothing."""
    if not options.model:
        raise ModelError(
            "no model given; name one (secateur list models), or give a folder that Secateur saved or packed"
        )
    folder = _as_folder(options.model)
    if options.factory is not None and folder is None:
        raise ModelError(f"--factory builds the original of a saved folder, and {options.model} is none; drop it")
    saved: dict[str, Any] = {"name": options.model}
    if folder is not None:
        saved = _saved_source(folder, options.model, options.factory)
    asked = _parsed_shape(options.input_shape) or _saved_shape(saved)
    name = saved["name"]
    return Target(
        name=name,
        folder=folder,
        input_shape=asked or natural_input_shape(name),
        asked_shape=asked,
        num_classes=options.num_classes if options.num_classes is not None else saved.get("num_classes"),
        weights=options.weights,
        seed=options.seed,
        device=options.device,
    )


def _as_folder(model: str) -> Path | None:
    """MODEL as a folder: a path that exists or looks like one, unless a model has that name; a container's files."""
    path = Path(model)
    if ":" in model or model in dict(list_models()):
        return None
    if path.is_file():
        return unpacked(path)
    return path if path.is_dir() or len(path.parts) > 1 else None


def _saved_source(folder: Path, called: str, factory: str | None) -> dict[str, Any]:
    source = read_source(folder)
    if factory is not None:
        return {**source, "name": factory}
    name = source.get("name")
    if not name or not is_safe(name):
        raise StoreError(
            f"{called} holds a model that was built by code of yours{f' ({name})' if name else ''}; say by which: "
            f"--factory {name or 'package.module:factory'}"
        )
    return source


def _saved_shape(source: dict[str, Any]) -> Shape | None:
    shape = source.get("input_shape")
    return _parsed_shape(",".join(str(size) for size in shape)) if isinstance(shape, list) else None


def _parsed_shape(text: str | None) -> Shape | None:
    if text is None:
        return None
    try:
        channels, height, width = (int(part) for part in text.split(","))
    except ValueError as error:
        raise SecateurError(f"--input-shape {text}: expected C,H,W, for example 3,32,32") from error
    if min(channels, height, width) < 1:
        raise SecateurError(f"--input-shape {text}: every number must be at least 1")
    return channels, height, width


def _check_classes(model: nn.Module, data: ImageSet, name: str) -> None:
    images, _ = next(data.batches(1, device=next(model.parameters()).device))
    with torch.no_grad():
        given = logits_of(model(images)).shape[1]
    if given != len(data.classes):
        raise ModelError(
            f"{name} gives {given} scores per image, but {data.name} has {len(data.classes)} classes; "
            "take other data, or a model for these"
        )
