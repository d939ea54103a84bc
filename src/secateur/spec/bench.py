"""Networks side by side: what a forward of each takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.spec.record import Record

BENCH = "bench.json"
"""Name of the record in a folder."""


@dataclass(frozen=True)
class BenchRow:
    """One network in one engine."""

    model: str
    engine: str
    latency_ms: float
    """Median of one forward."""
    iqr_ms: float
    throughput: float
    """Samples a second: the batch over the median."""
    size_bytes: int
    """Weights, as the engine holds them: parameters and buffers, or the file."""
    working_bytes: int | None
    """By how much memory grows during a forward; None where that cannot be measured."""
    peak_memory_bytes: int | None
    """Both together."""
    speedup: float
    """Time of the first network in this engine over that of this one, measured in turn: the median of the rounds."""
    speedup_iqr: float


@dataclass(frozen=True)
class BenchRecord(Record):
    """A run of `bench`."""

    rows: tuple[BenchRow, ...]
    batch: int
    threads: int
    repeats: int
    device: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    schema_version: int = 1
