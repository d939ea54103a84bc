"""`load`: a saved folder, or a packed one, becomes a model again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from secateur.spec import ModelError, StoreError
from secateur.store import is_safe, load_into, read_source


def load(directory: str | Path, model: nn.Module | None = None) -> nn.Module:
    """The saved model in eval mode, bit for bit.

    directory: a folder that Secateur saved, or the container that it was packed into.
    model: a fresh instance of the original, which is turned into the saved one; not needed for networks that Secateur
    can build by name, those of torchvision and timm built in the ordinary way, and those of transformers. Raises
    StoreError when the folder is damaged or belongs to another model.
    """
    if Path(directory).is_file():
        from secateur.store.packed import unpacked

        with unpacked(directory) as folder:
            return load(folder, model)
    original = model if model is not None else _build(directory, read_source(directory))
    return load_into(directory, original).eval()


def _build(directory: str | Path, source: dict[str, Any]) -> nn.Module:
    from secateur.models import build_model

    name = source.get("name", "")
    if not isinstance(name, str) or not name:
        raise StoreError(
            f"{directory} does not say how to build its model; call load({str(directory)!r}, MyModel(...))"
        )
    if not is_safe(name):
        raise StoreError(
            f"{directory} was made from {name!r}, code that is not run because a folder asks for it; "
            f"build the model yourself and call load({str(directory)!r}, model)"
        )
    shape = source.get("input_shape")
    try:
        return build_model(name, num_classes=source.get("num_classes"), input_shape=tuple(shape) if shape else None)
    except ModelError as error:
        raise StoreError(f"{directory} asks for a model that cannot be built here: {error}") from error
