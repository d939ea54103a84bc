"""A safetensors file by its parts: the header, and where each tensor's bytes lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from secateur.store.packed.words import TYPES, item_size

PREFIX = struct.Struct("<Q")
METADATA = "__metadata__"
LONGEST_HEADER = 100_000_000
"""Bytes; what safetensors itself reads."""
Types = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of tensors by name."""


class Part(NamedTuple):
    """A tensor in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    at: int
    """Where its bytes begin."""

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * item_size(self.dtype)


@dataclass(frozen=True)
class Parts:
    """What a file consists of."""

    tensors: tuple[Part, ...]
    """In the order of their bytes."""
    header_bytes: int
    metadata: Mapping[str, str] | None
    """None where the header is not the one that `header_for` makes of metadata and tensors."""


def parts_of(content: memoryview) -> Parts | None:
    """None where it is not a safetensors file of types known here, which may still be packed as plain bytes."""
    try:
        start = PREFIX.size + PREFIX.unpack_from(content)[0]
        if start > min(len(content), LONGEST_HEADER):
            return None
        header = json.loads(bytes(content[PREFIX.size : start]))
        metadata = header.pop(METADATA, {})
        tensors = [
            Part(name, entry["dtype"], tuple(entry["shape"]), start + entry["data_offsets"][0])
            for name, entry in header.items()
        ]
        tensors.sort(key=lambda part: (part.at, part.size_bytes))
        place = start
        for part in tensors:
            if part.at != place or not all(type(size) is int and size >= 0 for size in (part.at, *part.shape)):
                return None
            place += part.size_bytes
        types = {part.name: (part.dtype, part.shape) for part in tensors}
        usual = list(types) == in_order(types) and content[:start] == header_for(types, metadata)
        usual = usual and all(isinstance(value, str) for value in metadata.values())
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None
    return Parts(tuple(tensors), start, metadata if usual else None) if place == len(content) else None


def header_for(tensors: Types, metadata: Mapping[str, str] | None = None) -> bytes:
    """The header of a file that holds tensors of these types and shapes in this order, as safetensors writes it."""
    header: dict[str, Mapping[str, object]] = {METADATA: metadata} if metadata else {}
    place = 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * item_size(dtype)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return PREFIX.pack(len(text)) + text


def in_order(tensors: Types) -> list[str]:
    """Names in the order of safetensors: wide types first, so that every tensor is aligned; then by name."""
    ranks = {dtype: rank for rank, dtype in enumerate(reversed(TYPES))}
    return sorted(tensors, key=lambda name: (ranks[tensors[name][0]], name))
