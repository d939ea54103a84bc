"""Named extension points: a name belongs to one thing, ours or a plug-in's (entry points `secateur.KIND`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from secateur.spec.errors import RegistryError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Things of one kind by name, each with one honest line on what it does."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[T, str]] = {}
        self._plugins_read = False

    def register(self, name: str, description: str) -> Callable[[T], T]:
        """Decorator that adds a thing; a second registration of a name is an error."""

        def add(thing: T) -> T:
            if name in self._entries:
                raise RegistryError(f"{self.kind} {name!r} is registered already; choose another name")
            self._entries[name] = (thing, description)
            return thing

        return add

    def get(self, name: str) -> T:
        """The thing of that name; raises RegistryError with the nearest names."""
        self._read_plugins()
        if name not in self._entries:
            raise RegistryError(f"unknown {self.kind} {name!r}; did you mean: {nearest(name, list(self._entries))}?")
        return self._entries[name][0]

    def describe(self) -> Iterator[tuple[str, str]]:
        """(name, description) of everything, in order of name."""
        self._read_plugins()
        for name in sorted(self._entries):
            yield name, self._entries[name][1]

    def _read_plugins(self) -> None:
        if self._plugins_read:
            return
        self._plugins_read = True
        for point in entry_points(group=f"secateur.{self.kind}"):
            thing = point.load()
            description = (getattr(thing, "__doc__", None) or point.value).strip().splitlines()[0]
            self.register(point.name, description)(thing)
