"""What a container says about itself; nothing of it is believed before it is checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import accumulate
from math import prod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from secateur.spec import StoreError
from secateur.spec.record import Record
from secateur.store.packed.bits import bytes_for
from secateur.store.packed.encodings import ENCODINGS, Layout
from secateur.store.packed.safetensors_file import Types, header_for, in_order
from secateur.store.packed.streams import Codec
from secateur.store.packed.words import FLOATING, TYPES, item_size

LARGEST = (1 << 53) - 1
"""Numbers above this do not survive every JSON reader."""
Size = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
Checksum = Annotated[int, Field(ge=0, lt=1 << 32, strict=True)]
Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ValueType = Literal["fp16", "bf16", "int8"]
STRICT: dict[str, Any] = {"extra": "forbid"}
WEIGHTS = "model.safetensors"
"""The file whose tensors go by their bare names."""
LONGEST_NAME = 255
MOST_DIMENSIONS = 64


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
    """Of the tensors that references of kind `base` mean (`reference.hash_of`)."""
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
    def expanded_bytes(self) -> int:
        """Bytes that reading everything asks for: of the files, and of the streams before compression."""
        return sum(array.size_bytes + sum(array.stream_sizes) for array in self.arrays)


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


def demand_sound(manifest: Manifest, size: int) -> None:
    """Raise StoreError unless files and arrays fit each other and that many bytes of arrays."""
    _demand_file_names(manifest.files)
    for number, array in enumerate(manifest.arrays):
        try:
            _demand_sound_array(array, manifest.files)
        except StoreError as error:
            raise StoreError(f"array {number}: {error}") from error
    found = sum(array.size for array in manifest.arrays)
    if found != size:
        raise StoreError(f"the arrays have {found} bytes, expected {size}")
    _demand_tiled(manifest)
    _demand_references(manifest)


def _demand_file_names(files: Iterable[FileRecord]) -> None:
    seen: set[str] = set()
    for file in files:
        name = file.name
        if not is_plain_name(name):
            raise StoreError(f"{name[:LONGEST_NAME]!r} is no plain file name")
        if name in seen:
            raise StoreError(f"file {name!r} occurs twice")
        seen.add(name)


def is_plain_name(name: str) -> bool:
    """Whether a file of that name lies in its folder, on any system."""
    if name in ("", ".", "..") or not name.isprintable():
        return False
    return len(name.encode(errors="replace")) <= LONGEST_NAME and not set(name) & set('/\\:*?"<>|')


def _demand_sound_array(array: ArrayRecord, files: Sequence[FileRecord]) -> None:
    if array.encoding not in ENCODINGS:
        raise StoreError(f"unknown encoding {array.encoding[:40]!r}; expected {', '.join(ENCODINGS)}")
    if not array.members:
        raise StoreError("no members")
    for member in array.members:
        if member.dtype not in TYPES:
            raise StoreError(f"unknown type {member.dtype[:40]!r}")
        extent = prod(max(size, 1) for size in member.shape) * item_size(member.dtype)
        if member.file >= len(files) or len(member.shape) > MOST_DIMENSIONS or extent > LARGEST:
            raise StoreError(f"member {(member.name or '')[:80]!r} is of no file here, or too large")
        usual = files[member.file].safetensors is not None
        if usual != (member.at is None) or (usual and member.name is None):
            raise StoreError(f"member {(member.name or '')[:80]!r} contradicts the order of its file")
    if len({item_size(member.dtype) for member in array.members}) > 1:
        raise StoreError("members of different widths")
    if len(array.members) > 1 and array.value_type is not None:
        raise StoreError("rounded values of several tensors in one array")
    first = next(iter(array.members))
    if array.value_type is not None and (first.dtype not in FLOATING or len(first.shape) < 2 or not first.elements):
        raise StoreError(f"{first.dtype} of {len(first.shape)} dimensions with values rounded to {array.value_type}")
    if array.kept > array.words:
        raise StoreError(f"{array.kept} of {array.words} words")
    widths = (1, array.word_size, 2)
    for stream, size, width in zip(
        (array.positions, array.values, array.scales), array.stream_sizes, widths, strict=True
    ):
        _demand_size(stream, size, width)


def _demand_size(stream: Stream, size_bytes: int, word_size: int) -> None:
    """A stream without compression is as long as what it holds; a compressed one is shorter."""
    if stream.codec == "raw" and stream.size != size_bytes:
        raise StoreError(f"a stream has {stream.size} bytes, expected {size_bytes}")
    if stream.codec != "raw" and stream.size >= size_bytes:
        raise StoreError(f"a compressed stream of {stream.size} bytes for {size_bytes}")
    if stream.codec == "planes" and word_size == 1:
        raise StoreError("planes of single bytes")


def _demand_tiled(manifest: Manifest) -> None:
    """Every byte of every file comes from exactly one member, or from its header."""
    names: set[str] = set()
    for array in manifest.arrays:
        for member in array.members:
            key = manifest.key(member)
            if key in names:
                raise StoreError(f"tensor {key[:80]!r} occurs twice")
            if key is not None:
                names.add(key)
    parts: list[list[tuple[int, int]]] = [[] for _ in manifest.files]
    for file, header in manifest.headers.items():
        parts[file].append((0, len(header)))
    for array, begins in zip(manifest.arrays, manifest.begins(), strict=True):
        for member, at in zip(array.members, begins, strict=True):
            parts[member.file].append((at, member.size_bytes))
    for file, found in zip(manifest.files, parts, strict=True):
        place = 0
        for at, size in sorted(found):
            if at != place:
                raise StoreError(f"file {file.name!r}: expected bytes from {place}, got them from {at}")
            place += size
        if place != file.size:
            raise StoreError(f"file {file.name!r} has {file.size} bytes, its members {place}")


def _demand_references(manifest: Manifest) -> None:
    elements = {
        manifest.key(member): member.elements
        for array in manifest.arrays
        if len(array.members) == 1 and (array.reference is None or array.reference.kind == "base")
        for member in array.members
    }
    for array in manifest.arrays:
        reference = array.reference
        if reference is None:
            continue
        if array.value_type is not None or any(member.name is None for member in array.members):
            raise StoreError("a reference of rounded values, or of something that is no tensor")
        if reference.kind == "base" and (reference.of is not None or manifest.base_sha256 is None):
            raise StoreError("a reference to a base that is not named, or to a part of it")
        if reference.kind == "zeros" and (
            reference.of is None
            or reference.of not in elements
            or array.word_size != 1
            or array.words != bytes_for(elements[reference.of])
        ):
            raise StoreError(f"bits of tensor {str(reference.of)[:80]!r}, which is not there or has another size")
