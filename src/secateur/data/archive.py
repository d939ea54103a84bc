"""Images of one size in a tar archive, `.../<split>/<class>/<file>`: decoded once, then read from a cache."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import tempfile
import zlib
from pathlib import Path

import numpy as np
from torch import Tensor

from secateur.data.decode import decoded
from secateur.data.limits import check_bytes
from secateur.data.npz import read_split
from secateur.data.source import Split
from secateur.spec import DataError

VARIABLE = "SECATEUR_CACHE"
"""Environment variable that names the cache folder, `~/.cache/secateur` without it."""

Decoded = dict[str, tuple[list[np.ndarray], list[str]]]
"""Split -> images `(H, W, C)` and the class name of each."""


def read_archive(path: Path, split: Split) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images `(N, C, H, W)` uint8, labels `(N,)` int64 and class names (alphabetical) of one split."""
    cached = _cache_file(path)
    if not cached.exists():
        _write(cached, _arrays(path))
    images, labels = read_split(cached, split)
    with np.load(cached, allow_pickle=False) as arrays:
        return images, labels, tuple(arrays["classes"].tolist())


def _cache_file(path: Path) -> Path:
    """One file per name, size and time of change of the archive."""
    state = path.stat()
    key = hashlib.sha256(f"{path.name} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "secateur")
    return folder / f"{path.name.partition('.')[0]}-{key}.npz"


def _write(target: Path, arrays: dict[str, np.ndarray]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, suffix=".tmp")
    except OSError as error:
        raise DataError(f"cannot write the cache {target}: {error}; set {VARIABLE} to a folder that can") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _arrays(path: Path) -> dict[str, np.ndarray]:
    found = _decode_all(path)
    classes = sorted(set(found["train"][1]))
    if not classes:
        raise DataError(
            f"{path}: no images; expected members named .../train/<class>/<file> and .../test/<class>/<file>"
        )
    arrays = {"classes": np.array(classes)}
    for split, (images, names) in found.items():
        absent = sorted(set(classes) ^ set(names))
        if absent:
            raise DataError(f"{path}: class {absent[0]!r} does not occur in both train and test")
        arrays[f"x_{split}"] = np.stack(images)
        arrays[f"y_{split}"] = np.array([classes.index(name) for name in names], dtype=np.int64)
    return arrays


def _decode_all(path: Path) -> Decoded:
    found: Decoded = {"train": ([], []), "test": ([], [])}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parts = Path(member.name).parts
                if member.isfile() and len(parts) >= 3 and parts[-3] in found:
                    images, names = found[parts[-3]]
                    images.append(_decode(archive, member, f"{path}: {member.name}", images))
                    names.append(parts[-2])
    except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: not a readable tar archive: {error}") from error
    return found


def _decode(archive: tarfile.TarFile, member: tarfile.TarInfo, where: str, before: list[np.ndarray]) -> np.ndarray:
    check_bytes((member.size,), 1, where)
    file = archive.extractfile(member)
    if file is None:
        raise DataError(f"{where}: no content")
    image = decoded(file, where=where, mode="RGB", size=None)
    if before and image.shape != before[0].shape:
        raise DataError(f"{where}: {image.shape} pixels, the images before it have {before[0].shape}")
    check_bytes((len(before) + 1, *image.shape), 1, where)
    return image
