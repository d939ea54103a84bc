"""How far long work is, on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
EVERY_S = 30.0
"""Seconds between two lines; work that takes less says nothing."""


def tracked(items: Iterable[T], work: str, total: int) -> Iterator[T]:
    """The items, while it is shown how many of them are done."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, work, total=total, console=Console(stderr=True), transient=True)
        return
    started = said = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if now - said >= EVERY_S:
            said = now
            sys.stderr.write(f"{work}: {number} of {total}, {now - started:.0f} s\n")
            sys.stderr.flush()
        yield item
