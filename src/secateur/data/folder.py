"""`folder:DIR`: one sub-folder of images per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secateur.data.files import Entry, read_files
from secateur.data.images import ImageSet
from secateur.data.source import DATA, Request, Split
from secateur.data.split import stratified
from secateur.spec import DataError


@DATA.register(
    "folder", "folder:DIR, images as DIR/train/<class>/* and DIR/test/<class>/*, or DIR/<class>/* split 80/20"
)
def open_folder(request: Request) -> ImageSet:
    """One split of a folder of images; all are scaled to the size of `input_shape`, or to that of the first image."""
    if request.path is None:
        raise DataError("folder: no directory given; write folder:DIR")
    return read_folder(request)


def read_folder(request: Request) -> ImageSet:
    """As `open_folder`, for any source whose path is such a folder."""
    entries, classes = _index(request.locate(), request.split)
    return read_files(entries, classes, request)


def _index(root: Path, split: Split) -> tuple[list[Entry], tuple[str, ...]]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected {root}/<class>/* or {root}/train/<class>/*")
    if not (root / "train").is_dir():
        classes = _classes(root)
        entries = _entries(root, classes, at_least=2)
        chosen = stratified(np.array([entry.label for entry in entries]), split)
        return [entries[i] for i in chosen], classes
    classes = _classes(root / "train")
    if not (root / split).is_dir():
        raise DataError(f"{root / split} does not exist beside {root / 'train'}; put the {split} images there")
    unknown = sorted(set(_classes(root / split)) - set(classes))
    if unknown:
        raise DataError(f"{root / split / unknown[0]}: class {unknown[0]!r} does not occur in {root / 'train'}")
    return _entries(root / split, classes), classes


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(entry.name for entry in _visible(folder) if entry.is_dir()))
    if not names:
        raise DataError(f"{folder}: no class folders; expected {folder}/<class>/<image files>")
    return names


def _entries(folder: Path, classes: tuple[str, ...], *, at_least: int = 1) -> list[Entry]:
    entries: list[Entry] = []
    for label, name in enumerate(classes):
        files = sorted(_visible(folder / name)) if (folder / name).is_dir() else []
        if len(files) < at_least:
            raise DataError(
                f"{folder / name}: {len(files)} images, needs at least {at_least}; add some or remove the class"
            )
        entries += [Entry(file, label, str(file)) for file in files]
    return entries


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
