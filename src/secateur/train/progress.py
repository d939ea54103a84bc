"""Progress of a run on stderr: a bar with the time left on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class Reporter(Protocol):
    """What the loop tells."""

    def step(self, loss: float) -> None: ...

    def epoch(self, record: Mapping[str, Any]) -> None: ...


class _Lines:
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def step(self, loss: float) -> None:
        """Nothing: a line per step is too many."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        shown = f"loss {record['loss']:.4f}  accuracy {record['accuracy']:.4f}  {record['seconds']:.1f} s"
        sys.stderr.write(f"epoch {record['epoch']}/{self.epochs}  {shown}\n")
        sys.stderr.flush()


class _Bar:
    def __init__(self, bar: Any, task: Any) -> None:
        self.bar = bar
        self.task = task

    def step(self, loss: float) -> None:
        self.bar.update(self.task, advance=1, description=f"training, loss {loss:.3f}")

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Nothing: the bar says it all."""


@contextmanager
def reporting(*, epochs: int, steps: int, done: int) -> Iterator[Reporter]:
    """Reporter for a run of `steps` steps of which `done` are behind it."""
    if not sys.stderr.isatty():
        yield _Lines(epochs)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task("training", total=steps, completed=done))
