"""Workers that are processes of this machine. One that dies, or fails at what another might not, is replaced, and its
task done again."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import distributed, nn
from torch import multiprocessing as mp

from secateur.search.workers.tasks import ATTEMPTS, Failure, Task, carried_out
from secateur.spec import SecateurError

LOOK = 1.0
"""Seconds in which a process of a team is seen to be gone, after the others have missed it."""


class Processes:
    """One worker per device of a list; a device may be there more than once."""

    def __init__(self, devices: Sequence[str], threads: int, team: int = 1) -> None:
        """threads: of the CPU, of each process. team: processes of each worker, which share every batch that a task
        trains on, and do all else alike; of CPUs alone."""
        self._threads, self._team = threads, team
        self._shared: dict[str, Any] = {}
        self._workers = [_Worker(device, threads, team) for device in devices]

    def share(self, name: str, value: Any) -> None:
        self._shared[name] = value
        for worker in self._workers:
            worker.share(name, value)

    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        waiting = deque(range(len(tasks)))
        tried: dict[int, list[int]] = {number: [] for number in waiting}
        """Places of the workers that had each task."""
        busy: dict[int, int] = {}
        """The task of each worker that has one, by the worker's place."""
        while waiting or busy:
            for place in range(len(self._workers)):
                number = None if place in busy else self._next(waiting, tried, place)
                if number is not None:
                    waiting.remove(number)
                    tried[number].append(place)
                    busy[place] = number
                    self._workers[place].ask(tasks[number])
            for place in self._ready(busy):
                number, worker = busy.pop(place), self._workers[place]
                result = worker.answer()
                if isinstance(result, Failure):
                    if not result.own or self._team > 1:  # of a team, others wait in vain for the one that failed
                        self._workers[place] = self._replaced(worker)
                    if not result.own and len(tried[number]) < ATTEMPTS:
                        waiting.appendleft(number)
                        continue
                yield number, result

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _next(self, waiting: Sequence[int], tried: Mapping[int, Sequence[int]], place: int) -> int | None:
        """What this worker does next: what it has failed at is for others, as long as there are any."""
        for number in waiting:
            if place not in tried[number] or len(set(tried[number])) == len(self._workers):
                return number
        return None

    def _ready(self, busy: Mapping[int, int]) -> list[int]:
        """Workers that have an answer, or that are dead."""
        there = wait([line for place in busy for line in self._workers[place].lines])
        return [place for place in busy if any(line in there for line in self._workers[place].lines)]

    def _replaced(self, worker: _Worker) -> _Worker:
        worker.close()
        new = _Worker(worker.device, self._threads, self._team)
        for name, value in self._shared.items():
            new.share(name, value)
        return new


class _Place(NamedTuple):
    """Of a process in its team."""

    number: int
    of: int
    meeting: str
    """A file of the team's own."""


class _Worker:
    """A process, or several that train together, and the lines to them; the first one's results count."""

    def __init__(self, device: str, threads: int, team: int) -> None:
        self.device = device
        self._folder = TemporaryDirectory(prefix="secateur-team-")
        context = mp.get_context("spawn")  # a fork of a process that has run torch's threads may hang
        pairs = [context.Pipe() for _ in range(team)]
        self.lines = [line for line, _ in pairs]
        self._processes: list[BaseProcess] = []
        for number, (_, other) in enumerate(pairs):
            place = _Place(number, team, str(Path(self._folder.name) / "meeting"))
            process = context.Process(target=_serve, args=(other, device, threads, place), daemon=True)
            process.start()
            other.close()
            self._processes.append(process)

    def share(self, name: str, value: Any) -> None:
        """Raises SecateurError for what cannot be sent."""
        try:
            # A network goes by value: shared memory takes a file handle per tensor, of which a process has few.
            network = pickle.dumps(value) if isinstance(value, nn.Module) else None
            for line in self.lines:  # of all else memory is shared, which is handed over once
                self._send(line, (name, network or bytes(ForkingPickler.dumps(value))))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SecateurError(
                f"the {name} cannot be sent to workers: {error}; define its classes at the top of a module, or search "
                "in this process, without workers"
            ) from error

    def ask(self, task: Task) -> None:
        for line in self.lines:
            self._send(line, task)

    def answer(self) -> Any:
        """The result of the task that was asked for last; where a process is gone, a Failure of the worker."""
        results: dict[int, Any] = {}
        waiting: dict[Any, int] = {line: number for number, line in enumerate(self.lines)}
        while waiting:
            for line in wait(list(waiting)):
                number = waiting.pop(line)
                try:
                    results[number] = self.lines[number].recv()
                except (EOFError, OSError):
                    self._processes[number].join()
                    return _died(f"exit code {self._processes[number].exitcode}")
                if isinstance(results[number], Failure) and len(self.lines) > 1:
                    lost = wait([process.sentinel for process in self._processes], timeout=LOOK)
                    return _died("one of its processes is gone") if lost else results[number]
        return results[0]

    def close(self) -> None:
        for line in self.lines:
            line.close()
        for process in self._processes:
            process.terminate()
            process.join()
        self._folder.cleanup()

    def _send(self, line: Any, message: Any) -> None:
        with suppress(OSError):  # it is dead, which the next answer tells
            line.send(message)


def _died(reason: str) -> Failure:
    return Failure(f"its worker died {ATTEMPTS} times ({reason}); out of memory?", own=False)


def _serve(connection: Connection, device: str, threads: int, place: _Place) -> None:
    """What a worker does until its line is cut."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the driver's to handle
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries write past Python, too
    if place.of > 1:
        store = distributed.FileStore(place.meeting, place.of)  # pyright: ignore[reportPrivateImportUsage]
        distributed.init_process_group("gloo", store=store, rank=place.number, world_size=place.of)
    shared: dict[str, Any] = {}
    unread: dict[str, Failure] = {}
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(message, Task):
            result = next(iter(unread.values()), None) or carried_out(message, shared, device)
            connection.send(result if place.number == 0 or isinstance(result, Failure) else None)
            continue
        name, packed = message
        unread.pop(name, None)
        try:
            shared[name] = pickle.loads(packed)  # noqa: S301
        except Exception as error:  # the user's modules may not be found here, or do anything
            reason = f"a worker cannot read the {name} ({type(error).__name__}: {error})"
            unread[name] = Failure(f"{reason}; can a new process import its classes, and is there room?", own=False)


def _follow() -> None:
    """Die with the driver, however that dies."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
