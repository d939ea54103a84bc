"""Arrays from `.npz` files: never pickled, and sized before they are read."""

from __future__ import annotations

import zipfile
import zlib
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from secateur.data.limits import check_bytes
from secateur.data.source import Split
from secateur.spec import DataError

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_split(path: Path, split: Split) -> tuple[Tensor, Tensor]:
    """Images `(N, C, H, W)` uint8 and labels `(N,)` int64 of one split.

    The file holds `x_train, y_train, x_test, y_test`: images `(N, H, W)` or `(N, H, W, C)` uint8, integer labels.
    """
    images, labels = _read(path, f"x_{split}"), _read(path, f"y_{split}")
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        found = f"{images.dtype} {images.shape}"
        raise DataError(f"{path}: x_{split} must be uint8 of shape (N, H, W) or (N, H, W, C), got {found}")
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(images),), (len(images), 1)):
        found = f"{labels.dtype} {labels.shape}"
        raise DataError(f"{path}: y_{split} must be {len(images)} integers, got {found}")
    channels_last = images if images.ndim == 4 else images[..., None]
    images_NCHW = torch.from_numpy(np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)))
    return images_NCHW, torch.from_numpy(labels.reshape(-1).astype(np.int64))


def _read(path: Path, key: str) -> np.ndarray:
    try:
        _check_header(path, key)
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        keys = ", ".join(KEYS)
        raise DataError(f"{path}: cannot read {key}: {error}; expected an .npz file of plain arrays {keys}") from error


def _check_header(path: Path, key: str) -> None:
    """The array's declared size must be sane, and the bytes that the file declares for it must be there."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        stored = archive.getinfo(f"{key}.npy").file_size
    check_bytes(shape, dtype.itemsize, f"{path}: {key}")
    if prod(shape) * dtype.itemsize > stored:
        raise DataError(f"{path}: {key} declares shape {shape} but holds only {stored:,} bytes; the file is damaged")
