"""Encoded images (JPEG, PNG, ...) to bytes, and files of text to text."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np

from secateur.data.limits import MAX_PIXELS
from secateur.spec import DataError, import_extra


def decoded(source: Path | IO[bytes], *, where: str, mode: str | None, size: tuple[int, int] | None) -> np.ndarray:
    """`(H, W, C)` uint8.

    `mode` is `"L"` (grey) or `"RGB"`, None for what the file holds; `size` is the height and width to scale to, None
    for the file's own. Raises DataError naming the file for a broken image, or a coloured one where grey is wanted.
    """
    pillow = import_extra("PIL.Image", "data")
    try:
        with pillow.open(source) as image:
            _check(image, mode, where)
            pixels = _in_8_bits(image).convert(mode or _own_mode(image))
            if size is not None and pixels.size != (size[1], size[0]):
                pixels = pixels.resize((size[1], size[0]), pillow.Resampling.BILINEAR)
            array = np.array(pixels)
    except (OSError, SyntaxError, ValueError, EOFError, pillow.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: not a readable image ({error}); repair or remove it") from error
    return array if array.ndim == 3 else array[..., None]


def _check(image: Any, mode: str | None, where: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{where}: {image.width}x{image.height} pixels, more than {MAX_PIXELS:,}; scale it down")
    if image.mode in ("I", "F"):
        raise DataError(f"{where}: grey of 32 bits, whose range is not known; save it with 8 or 16 bits")
    if mode == "L" and _own_mode(image) != "L":
        raise DataError(
            f"{where}: coloured image ({image.mode}) for a model that reads one channel; convert it to grey"
        )


def _in_8_bits(image: Any) -> Any:
    """Grey of 16 bits scaled, which Pillow would cut off at 255."""
    if not image.mode.startswith("I;16"):
        return image
    scaled = np.asarray(image).astype(np.uint16) >> 8
    return import_extra("PIL.Image", "data").fromarray(scaled.astype(np.uint8))


def _own_mode(image: Any) -> str:
    return "L" if image.mode in ("1", "L", "LA") or image.mode.startswith("I;16") else "RGB"


def read_utf8(file: Path) -> str:
    """The text of a file; raises DataError naming the place that is not UTF-8."""
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; give text that can be") from error
    except UnicodeDecodeError as error:
        line, byte = error.object[: error.start].count(b"\n") + 1, error.object[error.start]
        raise DataError(
            f"{file} is not UTF-8 (byte {error.start}, in line {line}, is {byte:#04x}); convert it, or leave it out"
        ) from error
