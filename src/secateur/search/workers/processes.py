"""Workers that are processes of this machine. One that dies is replaced, and its task done again."""

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

from secateur.search.workers.tasks import Failure, Task, carried_out

ATTEMPTS = 3
"""Workers that may die of a task before it counts as failed."""
LOOK = 1.0
"""Seconds in which a process of a team is seen to be gone, after the others have missed it."""


class _Sent(NamedTuple):
    """A network goes by value: shared memory takes a file handle per tensor, of which a process has few."""

    pickled: bytes


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
        deaths = dict.fromkeys(waiting, 0)
        busy: dict[int, int] = {}
        """The task of each worker that has one, by the worker's place."""
        while waiting or busy:
            for place, worker in enumerate(self._workers):
                if waiting and place not in busy:
                    busy[place] = waiting.popleft()
                    worker.ask(tasks[busy[place]])
            for place in self._ready(busy):
                number, worker = busy.pop(place), self._workers[place]
                result = worker.answer()
                if not isinstance(result, _Death):
                    yield number, result
                    continue
                self._workers[place] = self._reborn(worker.device)
                deaths[number] += 1
                if result.failure is not None:
                    yield number, result.failure
                elif deaths[number] < ATTEMPTS:
                    waiting.appendleft(number)
                else:
                    yield number, Failure(f"its worker died {ATTEMPTS} times ({result.reason}); out of memory?")

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _ready(self, busy: Mapping[int, int]) -> list[int]:
        """Workers that have an answer, or that are dead."""
        there = wait([line for place in busy for line in self._workers[place].lines])
        return [place for place in busy if any(line in there for line in self._workers[place].lines)]

    def _reborn(self, device: str) -> _Worker:
        worker = _Worker(device, self._threads, self._team)
        for name, value in self._shared.items():
            worker.share(name, value)
        return worker


class _Death(NamedTuple):
    reason: str
    failure: Failure | None = None
    """What one of a team met, which the others wait for in vain."""


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
        sent = _Sent(pickle.dumps(value)) if isinstance(value, nn.Module) else value
        self._send((name, sent))

    def ask(self, task: Task) -> None:
        self._send(task)

    def answer(self) -> Any:
        """The result of the task that was asked for last, or a death, after which the worker is no more."""
        results: dict[int, Any] = {}
        while len(results) < len(self.lines):
            for line in wait([line for number, line in enumerate(self.lines) if number not in results]):
                number = self.lines.index(line)  # type: ignore[arg-type]
                try:
                    results[number] = self.lines[number].recv()
                except (EOFError, OSError):
                    self._processes[number].join()
                    return self._dead(_Death(f"exit code {self._processes[number].exitcode}"))
                if isinstance(results[number], Failure) and len(self.lines) > 1:
                    lost = wait([process.sentinel for process in self._processes], timeout=LOOK)
                    return self._dead(_Death("one of its processes is gone", None if lost else results[number]))
        return results[0]

    def close(self) -> None:
        for line in self.lines:
            line.close()
        for process in self._processes:
            process.terminate()
            process.join()
        self._folder.cleanup()

    def _dead(self, death: _Death) -> _Death:
        self.close()
        return death

    def _send(self, message: Any) -> None:
        for line in self.lines:
            with suppress(OSError):  # it is dead, which the next answer tells
                line.send_bytes(ForkingPickler.dumps(message))  # memory that is shared is handed over once


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
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(message, Task):
            result = carried_out(message, shared, device)
            connection.send(result if place.number == 0 or isinstance(result, Failure) else None)
        else:
            name, value = message
            shared[name] = pickle.loads(value.pickled) if isinstance(value, _Sent) else value  # noqa: S301


def _follow() -> None:
    """Die with the driver, however that dies."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
