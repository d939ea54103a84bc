"""A manifest is checked before anything of it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from secateur.spec import StoreError
from secateur.store.packed.bits import bytes_for
from secateur.store.packed.encodings import ENCODINGS
from secateur.store.packed.manifest import LARGEST, ArrayRecord, FileRecord, Manifest, Stream
from secateur.store.packed.words import FLOATING, TYPES, item_size

LONGEST_NAME = 255
MOST_DIMENSIONS = 64


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
