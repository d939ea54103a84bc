"""The journal of a search: a line of JSON per event, appended and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from secateur.spec import StoreError
from secateur.spec.errors import changes
from secateur.spec.files import write_whole

SCHEMA_VERSION = 1
BEGUN = "begun"
"""The first event: what was asked for."""


class Records:
    """Events in order, in memory and in a file. A line that was not finished, because the process died, is as if it had
    never been begun."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Read the file, if there is one. about: what the events depend on, as JSON says it.

        Raises StoreError for a file that cannot be read, or that tells of another search.
        """
        self.path = path
        about = json.loads(json.dumps(about))
        self._events = list(self._read()) if path.is_file() else []
        if not self._events:
            self.append(BEGUN, schema_version=SCHEMA_VERSION, about=about)
        self._demand_same(about)

    def append(self, event: str, **values: Any) -> None:
        """Write an event; it is on the disk when this returns."""
        record = {"event": event, **values}
        with self.path.open("ab") as file:
            file.write((json.dumps(record) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        self._events.append(record)

    def of(self, event: str, **values: Any) -> Iterator[Mapping[str, Any]]:
        """Events of this kind with these values, in order."""
        for record in self._events:
            if record["event"] == event and all(record.get(key) == value for key, value in values.items()):
                yield record

    def go_back_to(self, iteration: int) -> None:
        """Forget the iterations after this one."""
        kept = [record for record in self._events if record.get("iteration", 0) <= iteration]
        write_whole(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._events = kept

    def _read(self) -> Iterator[dict[str, Any]]:
        whole, _, torn = self.path.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(self.path, len(whole) + 1 if whole else 0)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                record["event"]
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self.path}, line {number} is no event of a search: {error}; choose another folder, or delete it"
                ) from error
            yield record

    def _demand_same(self, about: Mapping[str, Any]) -> None:
        first = self._events[0]
        if first["event"] != BEGUN or first.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(f"{self.path} was written by another version; choose another folder, or delete it")
        held = first["about"]
        other = ", ".join(changes(held, about).values())
        if other:
            raise StoreError(f"{self.path.parent} holds a search with other options ({other}); choose another folder")
