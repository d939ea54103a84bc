"""Fixed-width numbers in a row of bits, the lowest bit first; no loop over elements."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
NO_BYTES: Bytes = np.empty(0, np.uint8)


def pack_bools(flags: npt.NDArray[np.bool_]) -> Bytes:
    """Flag i is bit i % 8 of byte i // 8."""
    return np.packbits(flags, bitorder="little")


def unpack_bools(packed: Bytes, count: int) -> npt.NDArray[np.bool_]:
    """The first `count` flags."""
    return np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)


def pack_numbers(numbers_N: npt.NDArray[np.integer], width: int) -> Bytes:
    """Numbers below 2**width, one after the other."""
    if not width:
        return NO_BYTES
    octets = numbers_N.astype("<u8").view(np.uint8).reshape(-1, 8)
    return pack_bools(np.unpackbits(octets, axis=1, count=width, bitorder="little").ravel().view(np.bool_))


def unpack_numbers(packed: Bytes, count: int, width: int) -> Integers:
    """The first `count` numbers of `width` bits, below 64."""
    if not width:
        return np.zeros(count, np.int64)
    flags = np.unpackbits(packed, count=count * width, bitorder="little").reshape(count, width)
    octets = np.zeros((count, 8), np.uint8)
    octets[:, : -(-width // 8)] = np.packbits(flags, axis=1, bitorder="little")
    return octets.view("<i8").ravel().astype(np.int64, copy=False)


def bytes_for(bits: int) -> int:
    """Bytes that hold so many bits."""
    return -(-bits // 8)
