"""What was measured so far, on disk after every measurement: a run that is killed goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from secateur.spec import StoreError
from secateur.spec.errors import changes
from secateur.spec.files import write_whole

SCHEMA_VERSION = 1


class Journal:
    """Numbers by name in one JSON file, which is replaced whole each time."""

    def __init__(self, path: str | Path, about: Mapping[str, Any]) -> None:
        """Read the file, if there is one. about: what the numbers depend on, as JSON says it.

        Raises StoreError for a file that cannot be read, or that holds numbers of something else.
        """
        self.path = Path(path)
        self.about = json.loads(json.dumps(about))
        self.found: dict[str, float] = self._read() if self.path.exists() else {}

    def once(self, name: str, measure: Callable[[], float]) -> float:
        """The number of that name: the one of the file, else measured now and written."""
        if name not in self.found:
            self.found[name] = measure()
            self._write()
        return self.found[name]

    def _read(self) -> dict[str, float]:
        try:
            stored = json.loads(self.path.read_text())
            about, found = stored["about"], {str(name): float(value) for name, value in stored["found"].items()}
            version = stored["schema_version"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{self.path} cannot be read: {error}; delete it to start again") from error
        if version != SCHEMA_VERSION:
            raise StoreError(f"{self.path}: schema_version {version}, expected {SCHEMA_VERSION}; delete it")
        differing = changes(about, self.about)
        if differing:
            raise StoreError(
                f"{self.path} holds what was measured with other {', '.join(differing)}; choose another folder, or "
                "delete it"
            )
        return found

    def _write(self) -> None:
        record = {"schema_version": SCHEMA_VERSION, "about": self.about, "found": self.found}
        write_whole(self.path, json.dumps(record, indent=1))
