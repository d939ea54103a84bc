"""Image files with their labels, decoded into a set: what every source of single files shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from secateur.data.decode import decoded
from secateur.data.images import ImageSet, drawn
from secateur.data.limits import check_bytes
from secateur.data.source import Request

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Entry:
    """One image file."""

    file: Path
    label: int
    where: str
    """What messages call it."""


def read_files(entries: Sequence[Entry], classes: tuple[str, ...], request: Request) -> ImageSet:
    """The set that was asked for, of `limit` entries at most.

    All images are scaled to the size of `input_shape`, or to that of the first. Raises DataError naming the file that
    is broken, or where together they would be larger than is read into memory.
    """
    if request.limit is not None and request.limit < len(entries):
        entries = [entries[i] for i in drawn(len(entries), request.limit, request.seed).tolist()]
    images = _decoded(entries, request)
    channels = images.shape[1]
    return ImageSet(
        images=images,
        labels=torch.tensor([entry.label for entry in entries]),
        classes=classes,
        mean=MEAN if channels == 3 else (sum(MEAN) / 3,),
        std=STD if channels == 3 else (sum(STD) / 3,),
        name=f"{request.name} ({request.split})",
    )


def _decoded(entries: Sequence[Entry], request: Request) -> torch.Tensor:
    shape, first = request.input_shape, entries[0]
    example = decoded(first.file, where=first.where, mode="L" if shape and shape[0] == 1 else "RGB", size=None)
    height, width = shape[1:] if shape else example.shape[:2]
    channels = example.shape[2]
    check_bytes((len(entries), channels, height, width), 1, request.name)
    images = np.empty((len(entries), height, width, channels), dtype=np.uint8)
    for i, entry in enumerate(entries):
        mode = "L" if channels == 1 else "RGB"
        images[i] = decoded(entry.file, where=entry.where, mode=mode, size=(height, width))
    return torch.from_numpy(images.transpose(0, 3, 1, 2)).contiguous()
