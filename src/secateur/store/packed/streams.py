"""Bytes at rest: as they are, or through zstandard, whichever is smaller; words also plane by plane.

The first plane holds the first byte of every word, the next plane the second, and so on: the exponents of floating
numbers repeat, their low bits never do, and apart the first compress.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import zstandard

from secateur.spec import StoreError
from secateur.store.packed.bits import Bytes
from secateur.store.packed.words import Words, word_type

Codec = Literal["raw", "zstd", "planes"]
LEVEL, TEXT_LEVEL, PLANE_LEVEL = 3, 19, 1
"""Of zstandard. Tensors have no repetitions that a higher level would find, their planes least of all; texts have."""
SAMPLE_WORDS = 1 << 15
"""Which order of bytes is tried is decided on so many words."""


@dataclass(frozen=True)
class Stored:
    """A stream as it lies in the file."""

    codec: Codec
    content: bytes | memoryview

    @property
    def size(self) -> int:
        return len(self.content)


def store(words: Words, *, entropy: bool = True, level: int = LEVEL) -> Stored:
    """The smallest of what is offered."""
    raw = Stored("raw", words.view(np.uint8).data)
    if not entropy or not words.size:
        return raw
    if words.itemsize == 1:
        made = [Stored("zstd", _whole(words, level))]
    elif words.size <= SAMPLE_WORDS:
        made = [Stored("planes", _planes(words)), Stored("zstd", _whole(words, level))]
    else:
        start = (words.size - SAMPLE_WORDS) // 2
        sample = words[start : start + SAMPLE_WORDS]
        apart = len(_planes(sample)) <= len(_whole(sample, level))
        made = [Stored("planes", _planes(words)) if apart else Stored("zstd", _whole(words, level))]
    return min(raw, *made, key=lambda stored: stored.size)


def _whole(words: Words, level: int) -> bytes:
    return zstandard.ZstdCompressor(level=level).compress(words.view(np.uint8).data)


def _planes(words: Words) -> bytes:
    """One frame; each plane starts a block, with a table of its own."""
    planes = np.ascontiguousarray(words.view(np.uint8).reshape(-1, words.itemsize).T)
    made = zstandard.ZstdCompressor(level=PLANE_LEVEL).compressobj(size=planes.nbytes)
    parts: list[bytes] = []
    for plane in planes:
        parts += [made.compress(plane.data), made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
    return b"".join([*parts, made.flush()])


def restore(codec: Codec, content: bytes | memoryview, count: int, size: int) -> Words:
    """`count` words of `size` bytes each. Raises StoreError where the content holds anything else; no more memory is
    taken than these words need."""
    expected = count * size
    data = content if codec == "raw" else decompress(content, least=expected, most=expected)
    if len(data) != expected:
        raise StoreError(f"a stream holds {len(data)} bytes, expected {expected}")
    octets = np.frombuffer(data, np.uint8)
    if codec == "planes" and size > 1:
        return _from_planes(octets, count, size)
    return octets.view(word_type(size))


def _from_planes(octets: Bytes, count: int, size: int) -> Words:
    mixed = np.empty((count, size), np.uint8)
    for place, plane in enumerate(octets.reshape(size, count)):
        mixed[:, place] = plane  # faster than a transposed copy
    return mixed.view(word_type(size)).ravel()


def decompress(content: bytes | memoryview, *, most: int, least: int = 0) -> bytes:
    """One zstandard frame that says how many bytes it holds, from `least` to `most`, and does. Raises StoreError."""
    try:
        declared = zstandard.get_frame_parameters(content).content_size
        if not least <= declared <= most:
            raise StoreError(f"a compressed stream says that it holds {declared} bytes, expected {least} to {most}")
        return zstandard.ZstdDecompressor().decompress(content, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise StoreError(f"a compressed stream cannot be read: {error}") from error
