"""Files of a run, read as data from strangers: sizes are checked before memory is taken, and what does not fit is one
StoreError with the file's name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from secateur.spec import StoreError
from secateur.spec.files import sha256_of

MOST_BYTES = 1 << 28
MOST_LINES = 1_000_000


def read_bytes(path: Path) -> bytes:
    """The whole file; raises StoreError where there is none, or one larger than any record."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise StoreError(f"{path} has {size} bytes, more than any record that Secateur writes")
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}; copy the whole folder again") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises StoreError for anything else."""
    return _object(read_bytes(path), str(path))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """A JSON object a line; a last line that a kill cut short is left out."""
    *whole, _ = read_bytes(path).split(b"\n", MOST_LINES)
    for number, line in enumerate(whole, 1):
        yield _object(line, f"{path}, line {number}")


def _object(content: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is no JSON: {error}; make the run again, or copy it again") from error
    if not isinstance(found, dict):
        raise StoreError(f"{where}: expected a JSON object, got {type(found).__name__}; name a run of Secateur")
    return found


def demand_unchanged(path: Path, sha256: Mapping[str, str]) -> None:
    """Raise StoreError where a file of a folder is not the one that the manifest tells of."""
    if sha256_of(path) != sha256.get(path.name):
        raise StoreError(f"{path} was changed after it was saved (its sha256 differs); copy the folder again")


def rows_of(found: Mapping[str, Any], key: str, where: Path) -> list[dict[str, Any]]:
    """A list of JSON objects; raises StoreError for anything else."""
    rows = found.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise StoreError(f"{where}: {key} is no list of objects; make the run again, or copy it again")
    return rows


def object_of(found: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A JSON object; an empty one where there is something else."""
    value = found.get(key)
    return value if isinstance(value, dict) else {}
