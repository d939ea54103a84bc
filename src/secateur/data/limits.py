"""Sizes that are checked before memory is taken."""

from __future__ import annotations

from math import prod

from secateur.spec import DataError

MAX_BYTES = 8 << 30
"""Largest set of images that is read into memory."""
MAX_PIXELS = 1 << 26
"""Largest single image that is decoded."""
MAX_TABLE_BYTES = 1 << 26
"""Largest table of images that is read."""


def check_bytes(shape: tuple[int, ...], item_bytes: int, where: str) -> None:
    """Raise DataError where an array of that shape is larger than is read into memory."""
    size = prod(shape) * item_bytes
    if size > MAX_BYTES:
        raise DataError(f"{where}: {size:,} bytes in memory, more than {MAX_BYTES:,}; give a limit or smaller images")
