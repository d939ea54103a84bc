"""Folders, files of weights and containers: packed, and back."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from secateur.spec import StoreError
from secateur.spec.files import in_one_piece, sha256_of
from secateur.store.folder import CARD, MANIFEST, demand_free, read_manifest
from secateur.store.folder import Manifest as FolderManifest
from secateur.store.packed.contents import Contents, Tensors, of_files, of_folder
from secateur.store.packed.manifest import FileRecord, Manifest, headers_of
from secateur.store.packed.reading import Packed, open_container
from secateur.store.packed.writing import Packer, PackOptions, write_container


def pack_folder(
    folder: str | Path, path: str | Path, *, options: PackOptions | None = None, base: str | Path | None = None
) -> Manifest:
    """Pack a folder that Secateur saved into one file; returns what the file says about itself.

    base: a folder or container with tensors of the same names; only what differs from it is stored, and it is needed
    again to unpack.
    Raises StoreError for a folder that is incomplete or was changed, and for one that holds other folders.
    """
    folder, options = Path(folder), options or PackOptions()
    saved = read_manifest(folder)
    with opened_base(base) as tensors:
        contents = of_folder(folder)
        if options.values is not None:
            files = _restored_files(contents, Packer(contents, options, tensors))
            changed = _changed_texts(folder, saved, {file.name: str(file.sha256) for file in files}, options.values)
            contents = of_folder(folder, changed)
            known = [new if new.name in changed else old for old, new in zip(files, contents.files, strict=True)]
            contents = replace(contents, files=tuple(known))
        return write_container(contents, Path(path), options, tensors)


def pack_weights(
    file: str | Path, path: str | Path, *, options: PackOptions | None = None, base: str | Path | None = None
) -> Manifest:
    """Pack a safetensors file alone, for a receiver that has the network; otherwise as `pack_folder`.

    Raises StoreError for what is no safetensors file.
    """
    file, options = Path(file), options or PackOptions()
    if not file.is_file():
        raise StoreError(f"{file} is no file; name a safetensors file, or a folder that Secateur saved")
    with opened_base(base) as tensors:
        contents = of_files([file])
        if all(piece.member.name is None for piece in contents.pieces):
            raise StoreError(f"{file} is no safetensors file of types known here; name one, or pack its folder")
        if options.values is not None:
            contents = replace(contents, files=_restored_files(contents, Packer(contents, options, tensors)))
        return write_container(contents, Path(path), options, tensors)


def _changed_texts(folder: Path, saved: FolderManifest, restored: Mapping[str, str], values: str) -> dict[str, bytes]:
    """The folder's model card and manifest, with the hashes of what unpacking will restore; nothing where that is all
    as it was."""
    hashes = {file: digest for file, digest in restored.items() if file in saved.sha256}
    if hashes == saved.sha256:
        return {}
    changed, sizes = {}, dict(saved.size_bytes)
    if CARD in hashes:
        text = (folder / CARD).read_text(encoding="utf-8")
        for file, digest in hashes.items():
            text = text.replace(saved.sha256[file], digest)
        changed[CARD] = f"{text}\nThe weights were rounded to {values} when this was packed.\n".encode()
        hashes[CARD], sizes[CARD] = hashlib.sha256(changed[CARD]).hexdigest(), len(changed[CARD])
    changed[MANIFEST] = replace(saved, sha256=hashes, size_bytes=sizes).to_json(indent=1).encode()
    return changed


def _restored_files(contents: Contents, packer: Packer) -> tuple[FileRecord, ...]:
    """The files with the hashes of what unpacking will restore."""
    headers = headers_of(contents.files, (piece.member for piece in contents.pieces))
    digests = [hashlib.sha256(headers.get(place, b"")) for place in range(len(contents.files))]
    for piece in contents.pieces:
        digests[piece.member.file].update(packer.final_words(piece).data)
    return tuple(
        file
        if (found := digest.hexdigest()) == file.sha256
        else replace(file, sha256=found, original_sha256=file.original_sha256 or file.sha256)
        for file, digest in zip(contents.files, digests, strict=True)
    )


def unpack_folder(
    path: str | Path, out: str | Path, *, base: str | Path | None = None, trust_size: bool = False
) -> Manifest:
    """Restore the files of a container, each with the hash that it had; the folder appears whole or not at all.

    base: what the container was packed against. trust_size: see `open_packed`.
    Raises StoreError for a container that is damaged, and where something is there already that Secateur did not save.
    """
    target = Path(out)
    demand_free(target)
    with opened(path, base=base, trust_size=trust_size) as packed:
        with in_one_piece(target) as temporary:
            _restore(packed, temporary)
        return packed.manifest


def _restore(packed: Packed, folder: Path) -> None:
    files, headers = packed.manifest.files, packed.manifest.headers
    for place, file in enumerate(files):
        (folder / file.name).write_bytes(headers.get(place, b""))
    for number, begins in enumerate(packed.manifest.begins()):
        parts = zip(begins, packed.members(number), strict=True)
        for place, found in groupby(parts, lambda part: part[1][0].file):
            with (folder / files[place].name).open("r+b") as file:
                for at, (_, words) in found:
                    file.seek(at)
                    file.write(words.data)
    for file in files:
        if file.sha256 not in (None, sha256_of(folder / file.name)):
            raise StoreError(
                f"{packed.path}: {file.name} is not restored as it was (its sha256 differs); pack it again"
            )


@contextmanager
def unpacked(path: str | Path, *, trust_size: bool = False) -> Iterator[Path]:
    """The files of a container in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        manifest = unpack_folder(path, Path(folder) / "model", trust_size=trust_size)
        if MANIFEST not in {file.name for file in manifest.files}:
            raise StoreError(f"{path} holds weights alone; unpack it, and give the file that comes out as weights")
        yield Path(folder) / "model"


@contextmanager
def opened(path: str | Path, *, base: str | Path | None = None, trust_size: bool = False) -> Iterator[Packed]:
    """An open container, and its base for as long."""
    with opened_base(base, trust_size=trust_size) as tensors:
        size = 0 if base is None else _size_bytes(Path(base))
        with open_container(Path(path), base=tensors, base_bytes=size, trust_size=trust_size) as packed:
            yield packed


@contextmanager
def opened_base(path: str | Path | None, *, trust_size: bool = False) -> Iterator[Tensors | None]:
    """The tensors of a folder or container, or of nothing. Raises StoreError for what is neither, and for a container
    that has a base itself."""
    if path is None:
        yield None
    elif Path(path).is_dir():
        read_manifest(path)
        yield of_folder(Path(path))
    else:
        with open_container(Path(path), trust_size=trust_size) as packed:
            yield packed


def _size_bytes(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
