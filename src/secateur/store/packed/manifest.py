"""What a container says about itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import accumulate
from math import prod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from secateur.spec.record import Record
from secateur.store.packed.encodings import ENCODINGS, Layout
from secateur.store.packed.safetensors_file import Types, header_for, in_order
from secateur.store.packed.streams import Codec
from secateur.store.packed.words import item_size

WORKING = 48
"""Bytes that decoding takes, at most, for each kept word and each byte of its positions."""
LARGEST = (1 << 53) - 1
"""Numbers above this do not survive every JSON reader."""
Size = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
Checksum = Annotated[int, Field(ge=0, lt=1 << 32, strict=True)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ValueType = Literal["fp16", "bf16", "int8"]
STRICT: dict[str, Any] = {"extra": "forbid"}
WEIGHTS = "model.safetensors"
"""The file whose tensors go by their bare names."""


@dataclass(frozen=True)
class Stream:
    """Bytes of an array in the container; what they come to follows from the encoding."""

    codec: Codec
    size: Size
    __pydantic_config__: ClassVar = STRICT


NOTHING = Stream("raw", 0)


@dataclass(frozen=True)
class Member:
    """Bytes of a file that lie in an array, one after the other: a tensor, or a piece of any file."""

    dtype: str
    shape: tuple[Size, ...]
    name: str | None = None
    """Of the tensor; none for a piece of a file."""
    file: Size = 0
    """Its place among the files."""
    at: Size | None = None
    """Where the bytes begin in the file; none where that follows from the order of safetensors."""
    __pydantic_config__: ClassVar = STRICT

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * item_size(self.dtype)


@dataclass(frozen=True)
class Reference:
    """What the array's words were combined with, by exclusive or."""

    kind: Literal["base", "zeros"]
    """The members of the base container or folder; or the bits that say where a tensor is not zero, the first one
    highest in its byte."""
    of: str | None = None
    """That tensor."""
    __pydantic_config__: ClassVar = STRICT


@dataclass(frozen=True)
class ArrayRecord:
    """Words that were encoded together: one tensor, or several small ones of one type."""

    crc32: Checksum
    """Of its bytes in the container: positions, values, scales."""
    encoding: str
    kept: Size
    """Words that are not zero."""
    values: Stream
    members: tuple[Member, ...]
    positions: Stream = NOTHING
    scales: Stream = NOTHING
    """One bfloat16 for each index of the first dimension, for int8 values."""
    parameters: Mapping[str, Size] = field(default_factory=dict)
    value_type: ValueType | None = None
    """What the values were rounded to; none where every bit is as it was."""
    reference: Reference | None = None
    __pydantic_config__: ClassVar = STRICT

    @property
    def size(self) -> int:
        """Bytes in the container."""
        return self.positions.size + self.values.size + self.scales.size

    @property
    def shape(self) -> tuple[int, ...]:
        return self.members[0].shape if len(self.members) == 1 else (self.words,)

    @property
    def words(self) -> int:
        return sum(member.elements for member in self.members)

    @property
    def word_size(self) -> int:
        """Bytes of a stored word."""
        if self.value_type is None:
            return item_size(self.members[0].dtype)
        return 1 if self.value_type == "int8" else 2

    @property
    def size_bytes(self) -> int:
        """Bytes of the members."""
        return sum(member.size_bytes for member in self.members)

    @property
    def layout(self) -> Layout:
        return Layout(self.shape, self.words, self.kept, self.parameters)

    @property
    def stream_sizes(self) -> tuple[int, int, int]:
        """Bytes of positions, values and scales before compression. Raises StoreError for senseless parameters."""
        positions, values = ENCODINGS[self.encoding].sizes(self.layout)
        scales = self.shape[0] if self.value_type == "int8" and self.shape else 0
        return positions, values * self.word_size, 2 * scales


@dataclass(frozen=True)
class FileRecord:
    """A file that the container restores."""

    name: str
    size: Size
    sha256: Hash | None = None
    """Of the file as it is restored; none where it was made of tensors that never were a file."""
    original_sha256: Hash | None = None
    """Of the file that was packed, where the restored one differs."""
    safetensors: Mapping[str, str] | None = None
    """Metadata of a file as safetensors writes it, whose header and order follow from its tensors; none for others."""
    __pydantic_config__: ClassVar = STRICT


@dataclass(frozen=True)
class Manifest(Record):
    """The table of contents."""

    files: tuple[FileRecord, ...]
    arrays: tuple[ArrayRecord, ...]
    base_sha256: Hash | None = None
    """Of the tensors that references of kind `base` mean (`contents.hash_of`)."""
    schema_version: int = 1
    __pydantic_config__: ClassVar = {**Record.__pydantic_config__, **STRICT}

    def to_text(self) -> str:
        """As JSON without what is at its default, but for the version."""
        text = _adapter().dump_python(self, mode="json", exclude_defaults=True)
        return json.dumps({**text, "schema_version": self.schema_version}, separators=(",", ":"))

    def key(self, member: Member) -> str | None:
        """The name by which a tensor is asked for: its own, behind the file's where that is not the weights."""
        file = self.files[member.file].name
        return member.name if member.name is None or file == WEIGHTS else f"{file}:{member.name}"

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each array begins, from the first one on."""
        return tuple(accumulate((array.size for array in self.arrays), initial=0))[:-1]

    @cached_property
    def headers(self) -> Mapping[int, bytes]:
        """Headers of those files, by their place, that are as safetensors writes them."""
        return headers_of(self.files, (member for array in self.arrays for member in array.members))

    def begins(self) -> Iterator[Sequence[int]]:
        """For each array where the bytes of its members begin in their files."""
        places: dict[int, dict[str, int]] = {}
        tensors = _tensors_of(self.files, (member for array in self.arrays for member in array.members))
        for file, members in tensors.items():
            ordered = [members[name] for name in in_order(_types(members))]
            starts = accumulate((member.size_bytes for member in ordered), initial=len(self.headers[file]))
            places[file] = {member.name or "": start for member, start in zip(ordered, starts, strict=False)}
        for array in self.arrays:
            yield [
                places[member.file][member.name or ""] if member.at is None else member.at for member in array.members
            ]

    @property
    def size_bytes(self) -> int:
        """Bytes of the files."""
        return sum(file.size for file in self.files)

    @property
    def is_exact(self) -> bool:
        """Whether every bit is restored as it was; otherwise values were rounded."""
        rounded = any(array.value_type is not None for array in self.arrays)
        return not rounded and all(file.original_sha256 is None for file in self.files)

    @property
    def expanded_bytes(self) -> int:
        """Bytes that reading everything asks for, about: of the files, of the streams before compression, and of what
        decoding the largest array takes."""
        working = max((WORKING * (array.kept + array.stream_sizes[0]) for array in self.arrays), default=0)
        return sum(array.size_bytes + sum(array.stream_sizes) for array in self.arrays) + working


@cache
def _adapter() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def headers_of(files: Sequence[FileRecord], members: Iterable[Member]) -> dict[int, bytes]:
    """Headers of those files, by their place, that are as safetensors writes them."""
    headers: dict[int, bytes] = {}
    for file, tensors in _tensors_of(files, members).items():
        types = _types(tensors)
        headers[file] = header_for({name: types[name] for name in in_order(types)}, files[file].safetensors)
    return headers


def _tensors_of(files: Sequence[FileRecord], members: Iterable[Member]) -> dict[int, dict[str, Member]]:
    """Tensors by name, of each file that is as safetensors writes it."""
    found: dict[int, dict[str, Member]] = {
        place: {} for place, file in enumerate(files) if file.safetensors is not None
    }
    for member in members:
        if member.file in found and member.name is not None:
            found[member.file][member.name] = member
    return found


def _types(tensors: Mapping[str, Member]) -> Types:
    return {name: (member.dtype, member.shape) for name, member in tensors.items()}
