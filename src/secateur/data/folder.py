"""`folder:DIR`: one sub-folder of images per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from secateur.data.decode import decoded
from secateur.data.images import ImageSet, drawn
from secateur.data.limits import check_bytes
from secateur.data.source import DATA, Request, Split
from secateur.data.split import stratified
from secateur.spec import DataError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Entry = tuple[Path, int]
"""File and label."""


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
    root = request.locate()
    entries, classes = _index(root, request.split)
    if request.limit is not None and request.limit < len(entries):
        entries = [entries[i] for i in drawn(len(entries), request.limit, request.seed).tolist()]
    images = _decoded([file for file, _ in entries], request)
    channels = images.shape[1]
    return ImageSet(
        images=images,
        labels=torch.tensor([label for _, label in entries]),
        classes=classes,
        mean=MEAN if channels == 3 else (sum(MEAN) / 3,),
        std=STD if channels == 3 else (sum(STD) / 3,),
        name=f"{request.name} ({request.split})",
    )


def _decoded(files: Sequence[Path], request: Request) -> torch.Tensor:
    shape = request.input_shape
    first = decoded(files[0], where=str(files[0]), mode="L" if shape and shape[0] == 1 else "RGB", size=None)
    height, width = shape[1:] if shape else first.shape[:2]
    channels = first.shape[2]
    check_bytes((len(files), channels, height, width), 1, request.name)
    images = np.empty((len(files), height, width, channels), dtype=np.uint8)
    for i, file in enumerate(files):
        images[i] = decoded(file, where=str(file), mode="L" if channels == 1 else "RGB", size=(height, width))
    return torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous()


def _index(root: Path, split: Split) -> tuple[list[Entry], tuple[str, ...]]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected {root}/<class>/* or {root}/train/<class>/*")
    if not (root / "train").is_dir():
        classes = _classes(root)
        entries = _entries(root, classes, at_least=2)
        chosen = stratified(np.array([label for _, label in entries]), split)
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
        entries += [(file, label) for file in files]
    return entries


def _visible(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
