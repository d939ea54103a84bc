"""Writing a container: array by array, under another name first.

No more is in memory at a time than one array, its encodings and the base's same array: about eight times the bytes of
the largest tensor, twenty times where its elements are single bytes.
"""

from __future__ import annotations

import os
import secrets
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import BinaryIO

import numpy as np

from secateur.spec import StoreError
from secateur.store.packed.bits import bits_of, bytes_for
from secateur.store.packed.choosing import NEARLY_ALL, Choice, smallest
from secateur.store.packed.contents import Contents, Piece, Tensors, hash_of
from secateur.store.packed.encodings import ENCODINGS, Layout
from secateur.store.packed.envelope import HEADER, MAGIC, ends, read_manifest
from secateur.store.packed.found import Array
from secateur.store.packed.manifest import NOTHING, ArrayRecord, Manifest, Reference, Stream, ValueType
from secateur.store.packed.streams import LEVEL, TEXT_LEVEL, Stored, store
from secateur.store.packed.values import NO_SCALES, is_rounded, restored, rounded
from secateur.store.packed.words import Words

LEAST_MASK = 256
"""Bytes of a mask that is worth an array of its own."""
SMALL_BYTES, GROUP_BYTES = 1 << 12, 1 << 16
"""Tensors of so few bytes, or with so few that are not zero, share an array."""
SHARED_BYTES, SHARED_PIECES = 1 << 18, 1 << 12
"""What such an array holds, about."""
FEW_KEPT = 0.05


@dataclass(frozen=True)
class PackOptions:
    """How to pack."""

    encoding: str = "auto"
    """Or the name of one, for every tensor that can be said so."""
    values: ValueType | None = None
    """Round to these; every bit stays as it is where not given."""
    entropy: bool = True
    """Compress the streams."""

    def __post_init__(self) -> None:
        if self.encoding not in ("auto", *ENCODINGS):
            raise StoreError(f"unknown encoding {self.encoding!r}; expected auto, {', '.join(ENCODINGS)}")
        if self.values not in (None, "fp16", "bf16", "int8"):
            raise StoreError(f"unknown type of values {self.values!r}; expected fp16, bf16 or int8")


def write_container(contents: Contents, path: Path, options: PackOptions, base: Tensors | None = None) -> Manifest:
    """Write the file, whole or not at all. Raises StoreError where something else has its name, and for contents that
    no reader would take."""
    _demand_container(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with temporary.open("x+b") as file:
            manifest = _write(file, contents, options, base)
            file.seek(0)
            read_manifest(file)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return manifest


def _demand_container(path: Path) -> None:
    """Nothing is lost but a container."""
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file")
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise StoreError(f"{path} exists and is no container; choose another name, or remove it")


def _write(file: BinaryIO, contents: Contents, options: PackOptions, base: Tensors | None) -> Manifest:
    packer = Packer(contents, options, base)
    file.write(bytes(HEADER.size))
    arrays: list[ArrayRecord] = []
    for pieces in packer.groups():
        record, streams = packer.packed(pieces)
        arrays.append(record)
        for stream in streams:
            file.write(stream.content)
    manifest = Manifest(contents.files, tuple(arrays), None if base is None else hash_of(base))
    header, stored = ends(manifest, entropy=options.entropy)
    file.write(stored)
    file.seek(0)
    file.write(header)
    return manifest


class Packer:
    """Makes records and streams of the pieces of some contents."""

    def __init__(self, contents: Contents, options: PackOptions, base: Tensors | None) -> None:
        self.contents, self.options, self.base = contents, options, base
        self.based = {} if base is None else base.described()
        self.own = contents.keyed
        self.keys = {id(piece): key for key, piece in self.own.items()}

    def groups(self) -> Iterator[list[Piece]]:
        """Large pieces alone; small ones together with others of their type, so that none costs more than it holds."""
        waiting: dict[tuple[bool, str, bool], list[Piece]] = {}
        sizes: Counter[tuple[bool, str, bool]] = Counter()
        for piece in self.contents.pieces:
            if self._is_alone(piece):
                yield [piece]
                continue
            kind = (piece.member.name is not None, piece.member.dtype, self._has_base(piece))
            waiting.setdefault(kind, []).append(piece)
            sizes[kind] += piece.member.size_bytes
            if sizes[kind] >= SHARED_BYTES or len(waiting[kind]) >= SHARED_PIECES:
                yield waiting.pop(kind)
                del sizes[kind]
        yield from waiting.values()

    def _is_alone(self, piece: Piece) -> bool:
        special = is_rounded(piece.member, self.options.values) or self._masked(piece) is not None
        return special or not _is_small(piece)

    def packed(self, pieces: list[Piece]) -> tuple[ArrayRecord, list[Stored]]:
        """The record of an array, and its streams.

        Raises StoreError where decoding them does not give the same words.
        """
        members = tuple(piece.member for piece in pieces)
        words, scales, value_type = self._words(pieces), NO_SCALES, None
        if self._is_rounded(pieces[0], words):
            value_type = self.options.values
            assert value_type is not None
            words, scales = rounded(words, members[0], value_type)
        shape = members[0].shape if len(members) == 1 else (len(words),)
        choice, array, reference = self._smallest(pieces, Array(words, shape), is_exact=value_type is None)
        _demand_same(choice, array)
        streams = [choice.positions, choice.values, store(scales, entropy=self.options.entropy)]
        positions, values, scaling = (
            Stream(stored.codec, stored.size) if stored.size else NOTHING for stored in streams
        )
        record = ArrayRecord(
            crc32=reduce(lambda crc, stored: zlib.crc32(stored.content, crc), streams, 0),
            encoding=choice.encoded.encoding,
            kept=array.kept,
            members=members,
            positions=positions,
            values=values,
            scales=scaling,
            parameters=choice.encoded.parameters,
            value_type=value_type,
            reference=reference,
        )
        return record, streams

    def final_words(self, piece: Piece) -> Words:
        """What unpacking will restore: the piece's words, or what rounding leaves of them."""
        words, member = piece.read(), piece.member
        if not self._is_rounded(piece, words):
            return words
        assert self.options.values is not None
        stored, scales = rounded(words, member, self.options.values)
        return restored(stored, scales, member.dtype, member.shape, self.options.values)

    def _words(self, pieces: list[Piece]) -> Words:
        return np.concatenate([piece.read() for piece in pieces]) if len(pieces) > 1 else pieces[0].read()

    def _is_rounded(self, piece: Piece, words: Words) -> bool:
        """What the base has bit for bit stays as it is."""
        if not is_rounded(piece.member, self.options.values):
            return False
        same = self._base_words([piece])
        return same is None or not np.array_equal(words, same)

    def _smallest(self, pieces: list[Piece], array: Array, *, is_exact: bool) -> tuple[Choice, Array, Reference | None]:
        """Whole, or as the difference from something that the reader has."""
        level = LEVEL if pieces[0].member.name is not None else TEXT_LEVEL
        tried: list[tuple[Array, Reference | None]] = [(array, None)]
        if is_exact:
            for reference, words in self._references(pieces):
                tried.append((Array(array.words ^ words, array.shape), reference))
        made = [
            (smallest(one, encoding=self._encoding(pieces), entropy=self.options.entropy, level=level), one, reference)
            for one, reference in tried
        ]
        return min(made, key=lambda choice: choice[0].size)

    def _encoding(self, pieces: list[Piece]) -> str:
        """The one that was asked for is for tensors of two dimensions or more."""
        return self.options.encoding if len(pieces[0].member.shape) > 1 else "auto"

    def _references(self, pieces: list[Piece]) -> Iterator[tuple[Reference, Words]]:
        same = self._base_words(pieces)
        if same is not None:
            yield Reference("base"), same
        masked = self._masked(pieces[0])
        if masked is not None:
            yield Reference("zeros", masked), bits_of(self.final_words(self.own[masked]))

    def _base_words(self, pieces: list[Piece]) -> Words | None:
        """The words of the same tensors in the base, where it has all of them."""
        if self.base is None or not all(map(self._has_base, pieces)):
            return None
        return np.concatenate([self.base.words(self.keys[id(piece)]) for piece in pieces])

    def _has_base(self, piece: Piece) -> bool:
        """Whether the base has a tensor of that name, type and shape."""
        found = self.based.get(self.keys.get(id(piece), ""))
        return found is not None and found == (piece.member.dtype, piece.member.shape)

    def _masked(self, piece: Piece) -> str | None:
        """The weights whose mask the piece may be: those of its name."""
        name = piece.member.name
        weights = self.own.get(name) if name is not None else None
        if weights is None or weights is piece or piece.member.dtype != "U8":
            return None
        fits = piece.member.elements == bytes_for(weights.member.elements) and piece.member.elements >= LEAST_MASK
        return name if fits and self._is_alone(weights) else None


def _is_small(piece: Piece) -> bool:
    """Whether an array of its own would cost more than it saves: little that is not zero, or bytes that hardly any zero
    is among, which have one distribution in most tensors of a network."""
    size = piece.member.size_bytes
    if piece.member.name is None or size > GROUP_BYTES:
        return size <= GROUP_BYTES
    words = piece.read()
    kept = int(np.count_nonzero(words))
    dense_bytes = words.itemsize == 1 and kept > NEARLY_ALL * words.size
    return size <= SMALL_BYTES or words.itemsize * kept <= SMALL_BYTES // 2 or dense_bytes


def _demand_same(choice: Choice, array: Array) -> None:
    encoded = choice.encoded
    layout = Layout(array.shape, array.words.size, array.kept, encoded.parameters)
    found = ENCODINGS[encoded.encoding].decode(layout, encoded.positions, encoded.values)
    if not _are_same(found, array):
        raise StoreError(f"encoding {encoded.encoding} does not give its words back; this is a bug in Secateur")


def _are_same(found: Words, array: Array) -> bool:
    """Of few kept words it is enough that these are there and no others."""
    if found is array.words:
        return True
    if array.kept > FEW_KEPT * array.words.size:
        return np.array_equal(found, array.words)
    return np.count_nonzero(found) == array.kept and np.array_equal(found[array.index], array.values)
