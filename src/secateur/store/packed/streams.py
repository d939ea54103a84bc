"""Bytes at rest: as they are, or through zstandard, whichever is smaller; words also plane by plane.

The first plane holds the first byte of every word, the next plane the second, and so on: the exponents of floating
numbers repeat, their low bits never do, and apart the first compress.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import zstandard

from secateur.spec import StoreError
from secateur.store.packed.bits import Bytes
from secateur.store.packed.words import Words, word_type

Codec = Literal["raw", "zstd", "planes"]
LEVEL, TEXT_LEVEL = 3, 19
"""Of zstandard. Tensors have no repetitions that a higher level would find; texts have."""
PLANES = {"compression_level": 1, "window_log": 17, "hash_log": 10, "min_match": 7}
"""Planes of words have hardly any, and short ones there by chance cost more than they save."""
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
    ways = [_planes, partial(_whole, level=level)]
    if words.size > SAMPLE_WORDS:
        start = (words.size - SAMPLE_WORDS) // 2
        sample = words[start : start + SAMPLE_WORDS]
        ways = [min(ways, key=lambda way: way(sample).size)]
    return min(raw, *(way(words) for way in ways), key=lambda stored: stored.size)


def _whole(words: Words, level: int) -> Stored:
    return Stored("zstd", zstandard.ZstdCompressor(level=level).compress(words.view(np.uint8).data))


def _planes(words: Words) -> Stored:
    """One frame; each plane starts a block, with a table of its own. Single bytes are one plane as they are."""
    if words.itemsize == 1:
        made = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(**PLANES))
        return Stored("zstd", made.compress(words.data))
    planes = np.ascontiguousarray(words.view(np.uint8).reshape(-1, words.itemsize).T)
    parameters = zstandard.ZstdCompressionParameters(**PLANES)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=planes.nbytes)
    parts: list[bytes] = []
    for place, plane in enumerate(planes):
        parts += [made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)] if place else []
        parts.append(made.compress(plane.data))
    return Stored("planes", b"".join([*parts, made.flush()]))


def restore(codec: Codec, content: bytes | memoryview, count: int, size: int) -> Words:
    """`count` words of `size` bytes each. Raises StoreError where the content holds anything else; no more memory is
    taken than these words need."""
    expected = count * size
    octets = np.frombuffer(content, np.uint8) if codec == "raw" else _decompressed(content, expected)
    if len(octets) != expected:
        raise StoreError(f"a stream holds {len(octets)} bytes, expected {expected}")
    if codec == "planes" and size > 1:
        return _from_planes(octets, count, size)
    return octets.view(word_type(size))


def _from_planes(octets: Bytes, count: int, size: int) -> Words:
    if size == 2:
        words = octets[count:].astype(word_type(2))  # faster than to mix bytes
        words <<= 8
        words |= octets[:count]
        return words
    mixed = np.empty((count, size), np.uint8)
    for place, plane in enumerate(octets.reshape(size, count)):
        mixed[:, place] = plane  # faster than a transposed copy
    return mixed.view(word_type(size)).ravel()


def _decompressed(content: bytes | memoryview, size: int) -> Bytes:
    """One zstandard frame of so many bytes, in memory that may be written to. Raises StoreError."""
    octets = np.empty(_declared(content, size, size), np.uint8)
    decompressor = zstandard.ZstdDecompressor()
    with _readable(), decompressor.stream_reader(content, read_across_frames=True) as reader:
        found = reader.readinto(octets.data)
        if found != size or reader.read(1):
            raise StoreError(f"a compressed stream holds {found} bytes or more, expected {size}")
    return octets


def decompress(
    content: bytes | memoryview, *, most: int, least: int = 0, phrases: zstandard.ZstdCompressionDict | None = None
) -> bytes:
    """One zstandard frame that says how many bytes it holds, from `least` to `most`, and does. Raises StoreError.

    phrases: what the frame refers to.
    """
    _declared(content, least, most)
    with _readable():
        return zstandard.ZstdDecompressor(dict_data=phrases).decompress(content, allow_extra_data=False)


def _declared(content: bytes | memoryview, least: int, most: int) -> int:
    """How many bytes a frame says that it holds; StoreError where that is not within these."""
    with _readable():
        declared = zstandard.get_frame_parameters(content).content_size
    if not least <= declared <= most:
        raise StoreError(f"a compressed stream says that it holds {declared} bytes, expected {least} to {most}")
    return declared


@contextmanager
def _readable() -> Iterator[None]:
    """What zstandard cannot read is a StoreError."""
    try:
        yield
    except zstandard.ZstdError as error:
        raise StoreError(f"a compressed stream cannot be read: {error}") from error
