"""What holds for the whole run of a verb: threads, device, notes on stderr, containers that are open."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from secateur.cli.options import Common
from secateur.cli.processes import rank
from secateur.spec import SecateurError

UNTIL_DONE = ExitStack()
"""Closed when the verb is done."""


def unpacked(container: Path) -> Path:
    """The files of a container, in a folder that is there until the verb is done. Raises StoreError."""
    from secateur.store.packed import unpacked

    return UNTIL_DONE.enter_context(unpacked(container))


def note(text: str) -> None:
    """Tell the user what is going on, on stderr; once, where several processes run."""
    if rank() == 0:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def prepare(settings: Common) -> None:
    """Apply `--threads`; raise SecateurError for a device that is not there."""
    if settings.threads is not None:
        if settings.threads < 1:
            raise SecateurError(f"--threads {settings.threads}: at least one is needed")
        torch.set_num_threads(settings.threads)
    try:
        torch.empty(0, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SecateurError(f"--device {settings.device} cannot be used here: {reason}; try --device cpu") from error
