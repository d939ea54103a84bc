"""What workers are asked for, and what they give back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from secateur.spec import SecateurError

ATTEMPTS = 3
"""Workers that may fail at a task, or die of it, before it counts as failed."""


@dataclass(frozen=True)
class Task:
    """A call of `function(shared, device, **arguments)`; `shared` holds by name what every task may read."""

    name: str
    function: Callable[..., Any]
    """Of a module, so that other processes find it."""
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Failure:
    """In place of a result: what went wrong with the task, on every worker that tried."""

    reason: str
    own: bool = True
    """Whether the task itself is at fault; otherwise it may be its worker, and another one is to try."""


class Workers(Protocol):
    """Carry out tasks; a task's result does not depend on which worker has it, nor on how many there are."""

    def share(self, name: str, value: Any) -> None:
        """Let all tasks from now on read this, in place of what had the name before."""
        ...

    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Each task's number and its result, or a Failure, in the order in which they are done."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def carried_out(task: Task, shared: Mapping[str, Any], device: str) -> Any:
    """The result of a task, or a Failure that says why there is none."""
    try:
        return task.function(shared, device, **task.arguments)
    except SecateurError as error:
        return Failure(str(error))
    except Exception as error:  # memory that is full, a device that is broken, or the user's code
        return Failure(f"{type(error).__name__}: {error}", own=False)


class InProcess:
    """One task after the other, in this process."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self._shared: dict[str, Any] = {}

    def share(self, name: str, value: Any) -> None:
        self._shared[name] = value

    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        for number, task in enumerate(tasks):
            yield number, carried_out(task, self._shared, self.device)

    def close(self) -> None:
        self._shared.clear()
