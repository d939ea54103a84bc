"""The journal of a search: a line of JSON per event, appended and never changed."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from secateur.spec import StoreError
from secateur.spec.errors import changes
from secateur.spec.files import write_whole

SCHEMA_VERSION = 2
BEGUN = "begun"
"""The first event: what was asked for, and the iteration that it went on from, where it was asked to."""
FIXED = ("weights", "data")
"""What may not be otherwise in one folder."""


class Records:
    """Events in order, in memory and in a file. A line that was not finished, because the process died, is as if it had
    never been begun."""

    def __init__(self, path: Path) -> None:
        """Read the file, if there is one, and change nothing; raises StoreError for one that cannot be read."""
        self.path = path
        self._events = list(self._read()) if path.is_file() else []
        if self._events and self._begun().get("schema_version") != SCHEMA_VERSION:
            raise StoreError(f"{self.path} was written by another version; choose another folder, or delete it")

    @property
    def about(self) -> Mapping[str, Any]:
        """What the events depend on; empty where nothing has happened yet."""
        return self._begun()["about"] if self._events else {}

    @property
    def from_iteration(self) -> int | None:
        """Where the search was made to go on from, with the options it has now."""
        return self._begun().get("from_iteration") if self._events else None

    def begin(self, about: Mapping[str, Any]) -> None:
        """Note what is asked for, as JSON says it, where nothing has happened yet.

        Raises StoreError where something has, in a search with other options.
        """
        if not self._events or (len(self._events) == 1 and self.changes(about)):
            self._write([{"event": BEGUN, "schema_version": SCHEMA_VERSION, "about": _as_json(about)}])
            return
        self.demand_same(about)
        self._cut_off_torn_line()

    def demand_same(self, about: Mapping[str, Any]) -> None:
        """Raise StoreError where something is otherwise than in the search that is here, or where there is none."""
        if not self._events:
            raise StoreError(f"{self.path.parent} holds no search")
        self.demand_fixed(about)
        other = self.changes(about)
        if other:
            raise StoreError(
                f"{self.path.parent} holds a search with other options ({', '.join(other.values())}); choose another "
                "folder, or say from which iteration it is to go on with these (from_iteration)"
            )

    def changes(self, about: Mapping[str, Any]) -> dict[str, str]:
        """By name what is otherwise than in the search that is here."""
        return changes(_flat(self.about), _flat(_as_json(about)))

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

    def go_back_to(self, iteration: int, about: Mapping[str, Any], without: Container[str] = ()) -> None:
        """Forget the iterations after this one, and events of some kinds, and go on with other options.

        Raises StoreError where more than options are otherwise.
        """
        self.demand_fixed(about)
        begun = {"event": BEGUN, "schema_version": SCHEMA_VERSION, "about": _as_json(about)}
        begun["from_iteration"] = iteration
        _, *others = self._events
        kept = [one for one in others if one.get("iteration", 0) <= iteration and one["event"] not in without]
        self._write([begun, *kept])

    def demand_fixed(self, about: Mapping[str, Any]) -> None:
        """Raise StoreError where what may not change is otherwise than in the search that is here."""
        other = [name for name in FIXED if self.about.get(name) != about.get(name)]
        if other:
            raise StoreError(
                f"{self.path.parent} holds a search with other {' and '.join(other)}; choose another folder"
            )

    def _begun(self) -> Mapping[str, Any]:
        first = self._events[0]
        return first if first["event"] == BEGUN else {}

    def _write(self, events: list[dict[str, Any]]) -> None:
        write_whole(self.path, "".join(json.dumps(record) + "\n" for record in events), on_disk=True)
        self._events = events

    def _cut_off_torn_line(self) -> None:
        whole, _, torn = self.path.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(self.path, len(whole) + 1)

    def _read(self) -> Iterator[dict[str, Any]]:
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                record["event"]
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self.path}, line {number} is no event of a search: {error}; choose another folder, or delete it"
                ) from error
            yield record


def _as_json(about: Mapping[str, Any]) -> dict[str, Any]:
    """As it is when it is read again."""
    return json.loads(json.dumps(about))


def _flat(about: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options inside options by names such as `long_training.epochs`."""
    found: dict[str, Any] = {}
    for name, value in about.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
