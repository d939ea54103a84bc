"""Labelled images by name: digits, MNIST, CIFAR, or images of the user's own; and text for language models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from secateur.data import cifar, digits, folder, mnist, table
from secateur.data.images import ImageSet, Shape
from secateur.data.source import DATA, Reader, Request, Split
from secateur.data.text import TextSet, open_text
from secateur.spec import DataError
from secateur.spec.errors import nearest

__all__ = [
    "DATA",
    "ImageSet",
    "Reader",
    "Request",
    "Split",
    "TextSet",
    "cifar",
    "digits",
    "folder",
    "list_data",
    "mnist",
    "open_data",
    "open_text",
    "table",
]


def open_data(
    spec: str, split: Split, *, input_shape: Shape | None = None, limit: int | None = None, seed: int = 0
) -> ImageSet:
    """One split of a data set.

    `spec` is `digits`, `mnist[:FILE]`, `cifar10[:PATH]`, `cifar100[:PATH]`, `folder:DIR` or `csv:FILE`. The
    batches have `input_shape` (channels, height, width), by default the images' own. At most `limit` images are drawn
    with `seed`.
    Raises DataError for what is missing, broken or does not fit, MissingExtraError where a library is missing.
    """
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}; expected train or test")
    if limit is not None and limit < 1:
        raise DataError(f"limit={limit}: at least one image is needed")
    name, colon, path = spec.partition(":")
    if name not in dict(list_data()):
        raise DataError(f"unknown data {spec!r}; did you mean: {nearest(name, list(dict(list_data())))}?")
    request = Request(name, Path(path) if colon else None, split, input_shape, limit, seed)
    found = DATA.get(name)(request)
    if input_shape is not None:
        found = replace(found, target_shape=input_shape)
    return found if limit is None or limit >= len(found) else found.subset(limit, seed)


def list_data() -> list[tuple[str, str]]:
    """(name, description) of each data source, in order of name."""
    return list(DATA.describe())
