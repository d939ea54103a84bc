"""The measurement: every network in every engine once a round, so that what slows the machine slows all alike."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from secateur.bench.engines import Forward, Started
from secateur.bench.memory import working_bytes
from secateur.bench.networks import Entry
from secateur.cost.latency import once_ms, quartiles
from secateur.spec import BenchRecord, BenchRow, ModelError
from secateur.store import environment

WARMUP = 3


@dataclass(frozen=True)
class Lane:
    """A network in an engine, and the milliseconds of its forwards."""

    name: str
    engine: str
    started: Started
    working_bytes: int | None


def bench(
    entries: Sequence[Entry],
    engines: Sequence[str] = ("eager",),
    *,
    batch: int = 1,
    repeats: int = 30,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    tell: Callable[[str], None] = lambda _: None,
) -> BenchRecord:
    """Measure forwards of these networks at this batch, with as many threads as torch has.

    engines: names of `ENGINES`. device: where the networks are. options: for the record. clock: seconds. tell: is given
    a line on what goes on. Raises ModelError where nothing is left to be measured, and what engines raise.
    """
    if min(batch, repeats) < 1:
        raise ModelError(f"batch {batch} and repeats {repeats}: each must be at least 1")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        lanes: list[Lane] = []
        notes: list[str] = []
        for entry in entries:
            for engine in engines:
                tell(f"{entry.name}: starting in {engine}")
                place = Path(folder) / str(len(lanes))
                place.mkdir()
                started = entry.start(engine, batch, place)
                if started is None:
                    notes.append(f"{entry.name} does not run in {engine}")
                    place.rmdir()
                    continue
                notes += [f"{entry.name}: {note}" for note in started.notes]
                lanes.append(Lane(entry.name, engine, started, _working_bytes(started, device)))
        if not lanes:
            raise ModelError(f"nothing to measure: {'; '.join(notes) or 'no network was given'}")
        tell(f"measuring {repeats} rounds")
        times_ms = in_turn([lane.started.forward for lane in lanes], repeats=repeats, clock=clock)
    return BenchRecord(
        rows=tuple(_rows(lanes, times_ms, batch)),
        batch=batch,
        threads=torch.get_num_threads(),
        repeats=repeats,
        device=device,
        options=dict(options or {}),
        environment=environment(),
        notes=tuple(notes),
    )


def _working_bytes(started: Started, device: str) -> int | None:
    forward = started.forward if started.unpooled is None else started.unpooled()
    return working_bytes(forward, torch.device(device))


def in_turn(
    forwards: Sequence[Forward],
    *,
    repeats: int,
    warmup: int = WARMUP,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Milliseconds of each forward, one list each. All run once a round, and each round begins with another one.

    clock: seconds. Rounds of warming up come first.
    """
    times_ms: list[list[float]] = [[] for _ in forwards]
    for number in range(-warmup, repeats):
        for place in range(len(forwards)):
            lane = (place + number) % len(forwards)
            times_ms[lane].append(once_ms(forwards[lane], clock))
    return [taken[warmup:] for taken in times_ms]


def _rows(lanes: Sequence[Lane], times_ms: Sequence[Sequence[float]], batch: int) -> list[BenchRow]:
    first: dict[str, Sequence[float]] = {}
    rows: list[BenchRow] = []
    for lane, taken in zip(lanes, times_ms, strict=True):
        base = first.setdefault(lane.engine, taken)
        low, median, high = quartiles(taken)
        slow, speedup, fast = quartiles([b / a for b, a in zip(base, taken, strict=True)])
        peak = None if lane.working_bytes is None else lane.started.size_bytes + lane.working_bytes
        rows.append(
            BenchRow(
                model=lane.name,
                engine=lane.engine,
                latency_ms=median,
                iqr_ms=high - low,
                throughput=1e3 * batch / median,
                size_bytes=lane.started.size_bytes,
                working_bytes=lane.working_bytes,
                peak_memory_bytes=peak,
                speedup=speedup,
                speedup_iqr=fast - slow,
            )
        )
    return rows
