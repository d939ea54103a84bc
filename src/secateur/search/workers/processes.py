"""Workers that are processes of this machine. One that dies is replaced, and its task done again."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import multiprocessing as mp
from torch import nn

from secateur.search.workers.tasks import Failure, Task, carried_out

ATTEMPTS = 3
"""Workers that may die of a task before it counts as failed."""


class _Sent(NamedTuple):
    """A network goes by value: shared memory takes a file handle per tensor, of which a process has few."""

    pickled: bytes


class Processes:
    """One process per device of a list; a device may be there more than once."""

    def __init__(self, devices: Sequence[str], threads: int) -> None:
        """threads: of the CPU, of each process."""
        self._threads = threads
        self._shared: dict[str, Any] = {}
        self._workers = [_Worker(device, threads) for device in devices]

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
                if deaths[number] < ATTEMPTS:
                    waiting.appendleft(number)
                else:
                    yield number, Failure(f"its worker died {ATTEMPTS} times ({result.reason}); out of memory?")

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _ready(self, busy: Mapping[int, int]) -> list[int]:
        """Workers that have an answer, or that are dead."""
        there = wait([self._workers[place].connection for place in busy])
        return [place for place in busy if self._workers[place].connection in there]

    def _reborn(self, device: str) -> _Worker:
        worker = _Worker(device, self._threads)
        for name, value in self._shared.items():
            worker.share(name, value)
        return worker


class _Death(NamedTuple):
    reason: str


class _Worker:
    """A process, and the line to it."""

    def __init__(self, device: str, threads: int) -> None:
        self.device = device
        context = mp.get_context("spawn")  # a fork of a process that has run torch's threads may hang
        self.connection, other = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(other, device, threads), daemon=True)
        self._process.start()
        other.close()

    def share(self, name: str, value: Any) -> None:
        sent = _Sent(pickle.dumps(value)) if isinstance(value, nn.Module) else value
        self._send((name, sent))

    def ask(self, task: Task) -> None:
        self._send(task)

    def answer(self) -> Any:
        """The result of the task that was asked for last, or a death."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            self.connection.close()
            return _Death(f"exit code {self._process.exitcode}")

    def close(self) -> None:
        self.connection.close()
        self._process.terminate()
        self._process.join()

    def _send(self, message: Any) -> None:
        try:
            self.connection.send_bytes(ForkingPickler.dumps(message))
        except OSError:
            return  # it is dead, which the next answer tells


def _serve(connection: Connection, device: str, threads: int) -> None:
    """What a worker does until its line is cut."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the driver's to handle
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  (for as long as the process lives)
    shared: dict[str, Any] = {}
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            return
        if isinstance(message, Task):
            connection.send(carried_out(message, shared, device))
        else:
            name, value = message
            shared[name] = pickle.loads(value.pickled) if isinstance(value, _Sent) else value  # noqa: S301


def _follow() -> None:
    """Die with the driver, however that dies."""
    driver = parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)
