"""Element masks in a folder: one bit a weight, in one safetensors file."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from secateur.spec import ElementMasks, StoreError
from secateur.spec.saved import MASKS, MASKS_HEADER, MASKS_VERSION


def write_masks(masks: ElementMasks, folder: Path) -> None:
    """Write the file."""
    shapes = {name: list(kept.shape) for name, kept in masks.kept.items()}
    header = {
        "schema_version": MASKS_VERSION,
        "pattern": masks.pattern,
        "made_by": dict(masks.made_by),
        "shapes": shapes,
    }
    bits = {name: np.packbits(kept) for name, kept in masks.kept.items()}
    save_file(bits, folder / MASKS, metadata={MASKS_HEADER: json.dumps(header)})


def read_masks(folder: Path) -> ElementMasks | None:
    """The masks of a folder, none where it has no such file; raises StoreError where it cannot be read."""
    path = folder / MASKS
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()[MASKS_HEADER])
            if header["schema_version"] != MASKS_VERSION:
                raise StoreError(f"{path}: schema_version {header['schema_version']}, expected {MASKS_VERSION}")
            kept = {str(name): _unpacked(file, name, tuple(shape)) for name, shape in header["shapes"].items()}
            return ElementMasks(str(header["pattern"]), kept, dict(header["made_by"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read as masks: {error}; copy the folder again") from error


def _unpacked(file: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    count = prod(shape)
    (stored,) = file.get_slice(name).get_shape()
    if min(shape, default=1) < 0 or stored != -(-count // 8):
        raise ValueError(f"{name!r} holds {stored} bytes, a mask of {shape} takes {-(-count // 8)}")
    return np.unpackbits(file.get_tensor(name), count=count).astype(bool).reshape(shape)
