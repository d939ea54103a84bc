"""Work in a process of its own: a crash or a hang is an answer, and memory is given back."""

from __future__ import annotations

import multiprocessing as mp
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

Record = dict[str, Any]


def isolated(work: Callable[[], Iterator[Record]], timeout_s: float) -> Record:
    """Run `work` in a fork and join the records that it yields; `status` is `ok`, or says how it ended before its end,
    with all that it had yielded by then. From one record to the next `timeout_s` may pass."""
    context = mp.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(work, writer))
    process.start()
    writer.close()
    found = _collect(reader, timeout_s)
    if process.is_alive() and "status" not in found:
        process.kill()
    process.join()
    found.setdefault("status", "timeout" if process.exitcode == -9 else f"crash: exit code {process.exitcode}")
    return found


def _report(work: Callable[[], Iterator[Record]], writer: Connection) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # what networks and exporters print
        os.dup2(silence, stream)
    try:
        for record in work():
            writer.send(record)
        writer.send({"status": "ok"})
    except BaseException as error:
        writer.send({"status": f"crash: {type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def _collect(reader: Connection, timeout_s: float) -> Record:
    found: Record = {}
    while "status" not in found and reader.poll(timeout_s):
        try:
            found.update(reader.recv())
        except EOFError:
            break
    return found
