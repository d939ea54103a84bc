"""Files and folders that appear whole or not at all, and what tells one from another."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from secateur.spec.errors import StoreError

try:
    import fcntl
except ImportError:  # of Unix alone
    fcntl = None


def write_whole(path: Path, content: str | bytes, *, on_disk: bool = False) -> None:
    """Put the content, text as UTF-8, in place of what is there: under another name first, then renamed. on_disk: wait
    until it would outlast the machine."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if on_disk:
            file.flush()
            os.fsync(file.fileno())
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


@contextmanager
def locked(path: Path, what: str) -> Generator[None, None, None]:
    """Let no other process do the same meanwhile; raises StoreError, naming what is done, where one is at it. A process
    that dies lets go. Windows has no such locks: nothing is held there."""
    if fcntl is None:
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"another process runs a {what} in {path.parent}; wait for it, or choose another folder"
            ) from error
        yield


def sha256_of(path: Path) -> str:
    """Of the file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
