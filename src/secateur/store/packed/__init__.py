"""Containers: tensors, or a whole saved folder, in one file `.sct` that is as small as its zeros allow.

The format is described in docs/format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from secateur.store.packed.contents import of_tensors
from secateur.store.packed.encodings import ENCODINGS
from secateur.store.packed.folder import opened, opened_base, pack_folder, pack_weights, unpack_folder, unpacked
from secateur.store.packed.manifest import ArrayRecord, Manifest, Member, ValueType
from secateur.store.packed.reading import Packed, open_container
from secateur.store.packed.words import as_tensor
from secateur.store.packed.writing import PackOptions, write_container

__all__ = [
    "ENCODINGS",
    "ArrayRecord",
    "Manifest",
    "Member",
    "PackOptions",
    "Packed",
    "ValueType",
    "open_packed",
    "opened",
    "pack",
    "pack_folder",
    "pack_weights",
    "unpack",
    "unpack_folder",
    "unpacked",
]


def pack(
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    options: PackOptions | None = None,
    base: str | Path | None = None,
) -> Manifest:
    """Write tensors into one container, whole or not at all; returns what it says about itself.

    base: a folder or container with tensors of the same names; only what differs from it is stored, and it is needed
    again to unpack.
    Raises StoreError for types that safetensors cannot hold, and for values that the asked type cannot say.
    """
    with opened_base(base) as known:
        return write_container(of_tensors(tensors), Path(path), options or PackOptions(), known)


def unpack(path: str | Path, *, base: str | Path | None = None, trust_size: bool = False) -> dict[str, Tensor]:
    """Every tensor of a container by name, bit for bit unless its values were rounded; those of files other than
    model.safetensors as `FILE:NAME`.

    Raises StoreError for a container that is damaged or belongs to another base; see `open_packed`.
    """
    with opened(path, base=base, trust_size=trust_size) as packed:
        found: dict[str, Tensor] = {}
        for number in range(len(packed.manifest.arrays)):
            for member, words in packed.members(number):
                key = packed.manifest.key(member)
                if key is not None:
                    found[key] = as_tensor(words, member.dtype, member.shape)
        return found


def open_packed(path: str | Path, *, trust_size: bool = False) -> Packed:
    """An open container, to read single tensors from; to be closed, or used in a `with`.

    trust_size: let it ask for more memory than 64 MiB or a thousand times its own bytes.
    Raises StoreError for a container that is damaged, and for one that needs a base (`opened`).
    """
    return open_container(Path(path), trust_size=trust_size)
