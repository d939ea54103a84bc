"""What a data source is asked for, and the registry of sources (entry point group `secateur.data`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from secateur.data.images import ImageSet, Shape
from secateur.spec import DataError, Registry

Split = Literal["train", "test"]
VARIABLE = "SECATEUR_DATA"
"""Environment variable that names the folder with data sets."""


@dataclass(frozen=True)
class Request:
    """One call of `open_data`."""

    source: str
    path: Path | None
    """What followed the colon."""
    split: Split
    input_shape: Shape | None
    limit: int | None
    seed: int

    @property
    def name(self) -> str:
        """The request in words, for messages."""
        return self.source if self.path is None else f"{self.source}:{self.path}"

    def locate(self, *file_names: str) -> Path:
        """The path that was given, or the first of these files in the data folder; DataError where none exists."""
        if self.path is not None:
            if not self.path.exists():
                raise DataError(f"{self.name}: no such file or folder")
            return self.path
        folder = os.environ.get(VARIABLE)
        if not folder:
            raise DataError(
                f"{self.name}: no data given; set the environment variable {VARIABLE} to a folder with "
                f"{' or '.join(file_names)}, or give a path: {self.source}:PATH"
            )
        for file_name in file_names:
            if (Path(folder) / file_name).exists():
                return Path(folder) / file_name
        raise DataError(
            f"{self.name}: {VARIABLE}={folder} holds no {' or '.join(file_names)}; put one there or give a path: "
            f"{self.source}:PATH"
        )


Reader = Callable[[Request], ImageSet]
"""Reads one split. May leave `input_shape` and `limit` to `open_data`, which applies both to what it gets."""

DATA: Registry[Reader] = Registry("data")
