"""What a run leaves for others to read: a line of JSON per epoch, and curves for TensorBoard.

Both are called with the record of each epoch (`fit(..., on_epoch=...)`). A run that goes on after a kill may tell of an
epoch again; its new record takes the place of the old one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur.spec import MissingExtraError
from secateur.spec.files import write_whole

Record = Mapping[str, Any]


class JsonLines:
    """A file with one JSON object per epoch, oldest first."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __call__(self, record: Record) -> None:
        """Add the record, in place of what the file says of this epoch and of later ones."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        earlier = [line for line in lines if _epoch(line) < record["epoch"]]
        if len(earlier) == len(lines):
            with self.path.open("a") as file:
                file.write(json.dumps(dict(record)) + "\n")
            return
        write_whole(self.path, "".join(f"{line}\n" for line in (*earlier, json.dumps(dict(record)))))


def _epoch(line: str) -> float:
    """Of a line of the file; one that a kill cut short is as good as none."""
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


class TensorBoard:
    """Curves of every number in the records, for `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: str | Path) -> None:
        """Raises MissingExtraError without tensorboard."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                f"cannot import tensorboard ({error}); it comes with an extra: pip install 'secateur[track]'"
            ) from error
        self._make: Callable[..., Any] = SummaryWriter
        self._folder = str(folder)
        self._writer: Any = None

    def __call__(self, record: Record) -> None:
        """Add a point at this epoch to each curve; hides what an interrupted run drew from here on."""
        if self._writer is None:
            self._writer = self._make(self._folder, purge_step=record["epoch"])
        for name, value in record.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, record["epoch"])
        self._writer.flush()


def telling(trackers: Sequence[Callable[[Record], object]]) -> Callable[[Record], None]:
    """One callable for several."""

    def tell(record: Record) -> None:
        for tracker in trackers:
            tracker(record)

    return tell
