"""Progress of a run on stderr: a bar with the time left on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from secateur.train import processes


class Reporter(Protocol):
    """What the loop tells."""

    def step(self, loss: float, accuracy: float) -> None:
        """Loss of the step, and accuracy of the epoch so far."""
        ...

    def epoch(self, record: Mapping[str, Any]) -> None: ...


class _Silent:
    def step(self, loss: float, accuracy: float) -> None:
        """Nothing: the first process says it."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Nothing."""


class _Lines:
    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def step(self, loss: float, accuracy: float) -> None:
        """Nothing: a line per step is too many."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        left = (self.epochs - record["epoch"]) * record["seconds"]
        shown = [f"{key.replace('_', ' ')} {record[key]:.4f}" for key in _SHOWN if key in record]
        times = [f"{record['seconds']:.1f} s", f"{left:.0f} s left"]
        sys.stderr.write("  ".join([f"epoch {record['epoch']}/{self.epochs}", *shown, *times]) + "\n")
        sys.stderr.flush()


_SHOWN = ("loss", "accuracy", "agreement", "validation_loss", "validation_accuracy")


class _Bar:
    def __init__(self, bar: Any, task: Any) -> None:
        self.bar = bar
        self.task = task
        self.validated = ""

    def step(self, loss: float, accuracy: float) -> None:
        description = f"training, loss {loss:.3f}, accuracy {accuracy:.3f}{self.validated}"
        self.bar.update(self.task, advance=1, description=description)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """The bar says the rest."""
        if "validation_accuracy" in record:
            self.validated = f", validation {record['validation_accuracy']:.3f}"


@contextmanager
def reporting(*, epochs: int, steps: int, done: int) -> Iterator[Reporter]:
    """Reporter for a run of `steps` steps of which `done` are behind it."""
    if processes.index() > 0:
        yield _Silent()
        return
    if not sys.stderr.isatty():
        yield _Lines(epochs)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task("training", total=steps, completed=done))
