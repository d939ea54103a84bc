"""Files and folders that appear whole or not at all, and what tells one from another."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Put the content, text as UTF-8, in place of what is there: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


@contextmanager
def in_one_piece(target: Path) -> Generator[Path, None, None]:
    """A folder to write to, which takes the place of the target at the end, if nothing goes wrong. Whether what is
    there may go is for the caller to ask."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        _put_in_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _put_in_place(made: Path, target: Path) -> None:
    """What was there before is moved aside first and deleted last, so that a kill at any time loses neither."""
    if not target.exists():
        made.replace(target)
        return
    old = made.with_name(f"{made.name}-old")
    target.replace(old)
    made.replace(target)
    shutil.rmtree(old)


def sha256_of(path: Path) -> str:
    """Of the file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
