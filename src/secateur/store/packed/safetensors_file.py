"""A safetensors file by its parts: the header, and where each tensor's bytes lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod

from secateur.store.packed.manifest import Member
from secateur.store.packed.words import TYPES, item_size

PREFIX = struct.Struct("<Q")


def parts_of(content: memoryview, file: int) -> list[Member]:
    """The tensors of a file, in the order of their bytes; none where it is not a safetensors file of types known here,
    which may still be packed as plain bytes."""
    try:
        start = PREFIX.size + PREFIX.unpack_from(content)[0]
        header = json.loads(bytes(content[PREFIX.size : start]))
        header.pop("__metadata__", None)
        members = [
            Member(file, start + entry["data_offsets"][0], entry["dtype"], tuple(entry["shape"]), name)
            for name, entry in header.items()
        ]
        members.sort(key=lambda member: (member.at, member.size_bytes))
        place = start
        for member in members:
            if member.at != place or not all(type(size) is int and size >= 0 for size in member.shape):
                return []
            place += member.size_bytes
    except (struct.error, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return []
    return members if place == len(content) else []


def header_for(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """The header of a file that holds tensors of these types and shapes in this order."""
    header: dict[str, dict[str, object]] = {}
    place = 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * item_size(dtype)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return PREFIX.pack(len(text)) + text


def in_order(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    """Names in the order of safetensors: wide types first, so that every tensor is aligned; then by name."""
    types = list(TYPES)
    return sorted(tensors, key=lambda name: (-item_size(tensors[name][0]), types.index(tensors[name][0]), name))
