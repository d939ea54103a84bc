"""Reading a container: the manifest first, checked against the file, then only what is asked for."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from secateur.spec import StoreError
from secateur.spec.errors import nearest
from secateur.store.packed.bits import bits_of
from secateur.store.packed.contents import Described, Tensors, hash_of
from secateur.store.packed.encodings import ENCODINGS
from secateur.store.packed.encodings.csr import rows_and_columns
from secateur.store.packed.envelope import HEADER, read_manifest
from secateur.store.packed.found import Array
from secateur.store.packed.manifest import ArrayRecord, Manifest, Member
from secateur.store.packed.streams import restore
from secateur.store.packed.values import restored
from secateur.store.packed.words import Words, as_tensor, matrix_shape

LIMIT_BYTES, LIMIT_FACTOR = 1 << 26, 1000
"""A container may ask for 64 MiB of memory, or a thousand times its own bytes and its base's if that is more."""


class Packed:
    """An open container; reads the bytes of what is asked for alone. To be closed, or used in a `with`."""

    def __init__(self, path: Path, file: BinaryIO, manifest: Manifest, base: Tensors | None) -> None:
        self.path, self.manifest = path, manifest
        self._file, self._base = file, base
        self._last: tuple[int, list[Words]] | None = None
        self._places = {
            key: (number, place)
            for number, array in enumerate(manifest.arrays)
            for place, member in enumerate(array.members)
            if (key := manifest.key(member)) is not None
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Keys of the tensors: the name alone for those of model.safetensors, `FILE:NAME` for others."""
        return tuple(self._places)

    def record(self, name: str) -> ArrayRecord:
        """How the tensor is stored. Raises StoreError where there is none of that name."""
        return self.manifest.arrays[self._found(name)[0]]

    def tensor(self, name: str) -> Tensor:
        """One tensor, bit for bit unless its values were rounded."""
        member = self._member(name)
        return as_tensor(self.words(name), member.dtype, member.shape)

    def csr(self, name: str) -> Tensor:
        """One tensor as a torch CSR tensor of two dimensions: the first, and all others together. The entries are the
        words that are not zero, however it is stored."""
        member = self._member(name)
        found = Array(self.words(name), member.shape)
        starts, columns = rows_and_columns(found)
        values = as_tensor(found.values, member.dtype, (found.kept,))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)  # once, about its being new
            return torch.sparse_csr_tensor(
                torch.from_numpy(starts),
                torch.from_numpy(columns),
                values,
                matrix_shape(member.shape),
                check_invariants=True,
            )

    def described(self) -> Described:
        """Type and shape of every tensor."""
        members = {key: self._member(key) for key in self._places}
        return {key: (member.dtype, member.shape) for key, member in members.items()}

    def words(self, key: str) -> Words:
        """The tensor's bits."""
        number, wanted = self._found(key)
        if len(self.manifest.arrays[number].members) == 1:
            ((_, words),) = self.members(number)
            return words
        if self._last is None or self._last[0] != number:  # small ones are mostly asked for one after the other
            self._last = number, [words for _, words in self.members(number)]
        return self._last[1][wanted].copy()

    def members(self, number: int) -> Iterator[tuple[Member, Words]]:
        """Everything that an array holds. Raises StoreError where its bytes are not those of the manifest."""
        array = self.manifest.arrays[number]
        try:
            words = self._restored(array, HEADER.size + self.manifest.offsets[number])
        except StoreError as error:
            raise StoreError(f"{self.path}: {_called(array)}: {error}; copy or pack it again") from error
        place = 0
        for member in array.members:
            own = words[place : place + member.elements]
            yield member, own.copy() if len(array.members) > 1 else own  # tensors share no memory
            place += member.elements

    def _member(self, name: str) -> Member:
        number, place = self._found(name)
        return self.manifest.arrays[number].members[place]

    def _found(self, name: str) -> tuple[int, int]:
        if name not in self._places:
            raise StoreError(f"{self.path} holds no tensor {name!r}; the nearest are {nearest(name, list(self.names))}")
        return self._places[name]

    def _restored(self, array: ArrayRecord, offset: int) -> Words:
        self._file.seek(offset)
        content = memoryview(self._file.read(array.size))
        if zlib.crc32(content) != array.crc32:
            raise StoreError("its bytes were changed after they were written (their CRC-32 differs)")
        encoding, cut = ENCODINGS[array.encoding], array.positions.size
        end = cut + array.values.size
        position_bytes, value_bytes, scale_bytes = array.stream_sizes
        positions = restore(array.positions.codec, content[:cut], position_bytes, 1)
        values = restore(array.values.codec, content[cut:end], value_bytes // array.word_size, array.word_size)
        words = encoding.decode(array.layout, positions, values)
        if array.value_type is not None:
            scales = restore(array.scales.codec, content[end:], scale_bytes // 2, 2)
            words = restored(words, scales, array.members[0].dtype, array.members[0].shape, array.value_type)
        return words if array.reference is None else words ^ self._reference(array)

    def _reference(self, array: ArrayRecord) -> Words:
        assert array.reference is not None
        if array.reference.of is not None:
            return bits_of(self.words(array.reference.of))
        assert self._base is not None
        return np.concatenate([self._base.words(self.manifest.key(member) or "") for member in array.members])


def _called(array: ArrayRecord) -> str:
    name = array.members[0].name
    return f"tensor {name!r}" if name is not None else "a file"


def open_container(path: Path, *, base: Tensors | None = None, base_bytes: int = 0, trust_size: bool = False) -> Packed:
    """Open a container and check its manifest.

    base: the tensors that it was packed against; they must be the very ones.
    trust_size: allow it to ask for more memory than `LIMIT_BYTES` and `LIMIT_FACTOR` say.
    Raises StoreError.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    try:
        manifest = read_manifest(file)
        _demand_base(manifest, base)
        allowed = max(LIMIT_BYTES, LIMIT_FACTOR * (path.stat().st_size + base_bytes))
        if manifest.expanded_bytes > allowed and not trust_size:
            raise StoreError(
                f"it unpacks to {manifest.expanded_bytes:,} bytes, more than the {allowed:,} that a container of its "
                "size may; if you know who packed it, unpack it with --trust-size (trust_size=True)"
            )
        return Packed(path, file, manifest, base)
    except BaseException as error:
        file.close()
        if isinstance(error, StoreError):
            raise StoreError(f"{path}: {error}") from error
        raise


def _demand_base(manifest: Manifest, base: Tensors | None) -> None:
    if manifest.base_sha256 is None:
        if base is not None:
            raise StoreError("it was packed without a base; leave --delta away")
        return
    if base is None:
        raise StoreError(
            f"it holds differences from a base ({manifest.base_sha256[:12]}...); unpack it with --delta BASE"
        )
    found = hash_of(base)
    if found != manifest.base_sha256:
        raise StoreError(f"it was packed against the base {manifest.base_sha256[:12]}..., got {found[:12]}...")
    described = base.described()
    for array in manifest.arrays:
        if array.reference is not None and array.reference.kind == "base":
            for member in array.members:
                key = manifest.key(member) or ""
                if described.get(key) != (member.dtype, member.shape):
                    raise StoreError(f"tensor {key[:80]!r} is a difference from one that the base does not have")
