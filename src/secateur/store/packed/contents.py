"""What goes into a container: files, cut into tensors and other pieces, none of which is read before it is needed."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from secateur.spec import StoreError
from secateur.store.packed.checking import is_plain_name
from secateur.store.packed.manifest import WEIGHTS, FileRecord, Member
from secateur.store.packed.safetensors_file import Parts, header_for, in_order, parts_of
from secateur.store.packed.words import Words, as_words, dtype_name, item_size, word_type

SAFETENSORS = ".safetensors"
PIECE_BYTES = 1 << 24
"""Files that hold no tensors are packed in pieces of so many bytes."""
Described = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape of tensors by key."""


class Tensors(Protocol):
    """Tensors by key, of a folder or of a container."""

    def described(self) -> Described: ...

    def words(self, key: str) -> Words: ...


@dataclass(frozen=True)
class Piece:
    """A member to be, and its bytes."""

    member: Member
    read: Callable[[], Words]


@dataclass(frozen=True)
class Contents:
    """Files and their pieces; the pieces of a file in the order of their bytes, without a hole but for the header of a
    file that is as safetensors writes it."""

    files: tuple[FileRecord, ...]
    pieces: tuple[Piece, ...]

    @cached_property
    def keyed(self) -> Mapping[str, Piece]:
        """Tensors by the key that they will have in the container."""
        found: dict[str, Piece] = {}
        for piece in self.pieces:
            file, name = self.files[piece.member.file].name, piece.member.name
            if name is not None:
                found[name if file == WEIGHTS else f"{file}:{name}"] = piece
        return found

    def described(self) -> Described:
        return {key: (piece.member.dtype, piece.member.shape) for key, piece in self.keyed.items()}

    def words(self, key: str) -> Words:
        return self.keyed[key].read()


def of_tensors(tensors: Mapping[str, Tensor]) -> Contents:
    """Tensors as the safetensors file that they would be in. Raises StoreError for types that it cannot hold."""
    types = {name: (dtype_name(tensor, name), tuple(tensor.shape)) for name, tensor in tensors.items()}
    order = in_order(types)
    pieces = [Piece(Member(*types[name], name), lambda tensor=tensors[name]: as_words(tensor)) for name in order]
    size = len(header_for({name: types[name] for name in order})) + sum(piece.member.size_bytes for piece in pieces)
    return Contents((FileRecord(WEIGHTS, size, safetensors={}),), tuple(pieces))


def of_folder(folder: Path, changed: Mapping[str, bytes] | None = None) -> Contents:
    """The files of a folder.

    changed: what to take in place of files of these names.
    """
    paths = sorted(folder.iterdir())
    for path in paths:
        if not path.is_file() or not is_plain_name(path.name):
            raise StoreError(f"{path} cannot be packed: expected plain files alone in {folder}; move it elsewhere")
    return of_files(paths, changed)


def of_files(paths: Sequence[Path], changed: Mapping[str, bytes] | None = None) -> Contents:
    """Plain files with plain names; `changed` as for a folder."""
    files, pieces = [], []
    for number, path in enumerate(paths):
        original = _mapped(path)
        digest = hashlib.sha256(original).hexdigest()
        content = memoryview(changed[path.name]) if changed and path.name in changed else original
        restored = digest if content is original else hashlib.sha256(content).hexdigest()
        parts = parts_of(content) if path.suffix == SAFETENSORS else None
        metadata = None if parts is None else parts.metadata
        files.append(FileRecord(path.name, len(content), restored, digest if digest != restored else None, metadata))
        pieces += _pieces(number, content, parts)
    return Contents(tuple(files), tuple(pieces))


def _mapped(path: Path) -> memoryview:
    """The file's bytes, which the system reads when they are looked at."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _pieces(file: int, content: memoryview, parts: Parts | None) -> Iterator[Piece]:
    if parts is None:
        yield from _plain_pieces(file, content)
        return
    if parts.metadata is None:
        yield from _plain_pieces(file, content[: parts.header_bytes])
    for name, dtype, shape, at in parts.tensors:
        member = Member(dtype, shape, name, file, at if parts.metadata is None else None)
        yield Piece(member, partial(_words_at, content, at, member))


def _plain_pieces(file: int, content: memoryview) -> Iterator[Piece]:
    for at in range(0, len(content), PIECE_BYTES):
        member = Member("U8", (min(PIECE_BYTES, len(content) - at),), None, file, at)
        yield Piece(member, partial(_words_at, content, at, member))


def _words_at(content: memoryview, at: int, member: Member) -> Words:
    octets = np.frombuffer(content[at : at + member.size_bytes], np.uint8)
    return octets.view(word_type(item_size(member.dtype)))


def hash_of(tensors: Tensors) -> str:
    """One number for names, types, shapes and bits: SHA-256 over the tensors in order of their keys, each as a line
    `key type shape` and its bytes."""
    described = tensors.described()
    digest = hashlib.sha256()
    for key in sorted(described):
        dtype, shape = described[key]
        digest.update(f"{key} {dtype} {','.join(map(str, shape))}\n".encode())
        digest.update(np.ascontiguousarray(tensors.words(key)).view(np.uint8).data)
    return digest.hexdigest()
