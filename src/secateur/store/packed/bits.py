"""Fixed-width numbers in a row of bits, the lowest bit first; no loop over elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
SHORT, NARROW = 9, 25
"""Numbers of so many bits lie within two and within four bytes, wherever they begin."""
NO_BYTES: Bytes = np.empty(0, np.uint8)


def pack_bools(flags: npt.NDArray[np.bool_]) -> Bytes:
    """Flag i is bit i % 8 of byte i // 8."""
    return np.packbits(flags, bitorder="little")


def unpack_bools(packed: Bytes, count: int) -> npt.NDArray[np.bool_]:
    """The first `count` flags."""
    return np.unpackbits(packed, count=count, bitorder="little").view(np.bool_)


def pack_numbers(numbers_N: npt.NDArray[np.integer], width: int) -> Bytes:
    """Numbers below 2**width, at most 48 bits, one after the other.

    Eight numbers fill `width` bytes, and the number at each of these eight places always lies alike.
    """
    count = len(numbers_N)
    padded_G8 = np.zeros((-(-count // 8), 8), np.uint64)
    padded_G8.reshape(-1)[:count] = numbers_N
    packed = np.zeros((len(padded_G8), width), np.uint8)
    for place in range(8):
        first, shift = divmod(place * width, 8)
        shifted = padded_G8[:, place] << np.uint64(shift)
        for byte in range(first, bytes_for(place * width + width)):
            packed[:, byte] |= (shifted >> np.uint64(8 * (byte - first))).astype(np.uint8)
    return packed.reshape(-1)[: bytes_for(count * width)]


def unpack_numbers(packed: Bytes, count: int, width: int) -> npt.NDArray[np.unsignedinteger]:
    """The first `count` numbers of `width` bits, at most 48."""
    octets = np.zeros((-(-count // 8), width), np.uint8)
    octets.reshape(-1)[: len(packed)] = packed[: octets.size]
    kind = np.uint16 if width <= SHORT else np.uint32 if width <= NARROW else np.uint64
    numbers_G8 = np.empty((len(octets), 8), kind)
    for place in range(8):
        first, shift = divmod(place * width, 8)
        number = np.zeros(len(octets), kind)
        for byte in range(first, bytes_for(place * width + width)):
            number |= octets[:, byte].astype(kind) << (8 * (byte - first))
        numbers_G8[:, place] = (number >> shift) & ((1 << width) - 1)
    return numbers_G8.reshape(-1)[:count]


def bytes_for(bits: int) -> int:
    """Bytes that hold so many bits."""
    return -(-bits // 8)


def bits_of(words: npt.NDArray[Any]) -> Bytes:
    """Whether each word is not zero, as the masks of a saved folder have it: the first one highest in its byte."""
    return np.packbits(words != 0)
