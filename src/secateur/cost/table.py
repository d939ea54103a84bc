"""Measured times of operators, kept on disk for each device."""

from __future__ import annotations

import os
import platform
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import BaseModel, NonNegativeFloat, ValidationError

SCHEMA_VERSION = 1


class _Record(BaseModel):
    """What the file holds."""

    schema_version: int
    times_ms: dict[str, NonNegativeFloat]


class LatencyTable:
    """Milliseconds by key. What was measured once is not measured again, by this process or, once saved, by a later one
    on the same device."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        """Where it is kept; nowhere without."""
        self._times_ms = {} if path is None else _read(path)
        self._new: dict[str, float] = {}

    def time_ms(self, key: str, measure: Callable[[], float]) -> float:
        """The time under this key, measured where it is not known."""
        found = self._times_ms.get(key)
        if found is None:
            found = self._times_ms[key] = self._new[key] = measure()
        return found

    def save(self) -> None:
        """Write what is new beside what other processes have written by now. A folder that cannot be written to costs
        the next run its measurements, and this one nothing."""
        if self.path is None or not self._new:
            return
        record = _Record(schema_version=SCHEMA_VERSION, times_ms={**_read(self.path), **self._new})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, suffix=".part", delete=False) as file:
                file.write(record.model_dump_json(indent=0))
            os.replace(file.name, self.path)
        except OSError:
            return
        self._new = {}


def table_of(device: torch.device) -> LatencyTable:
    """The table of this device, this version of torch and this number of threads, under `$XDG_CACHE_HOME` or
    `~/.cache`."""
    name = f"{device_name(device)} torch {torch.__version__}"
    if device.type == "cpu":
        name += f" {torch.get_num_threads()} threads"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secateur" / "latency"
    return LatencyTable(folder / f"{re.sub(r'[^a-z0-9.]+', '-', name.lower()).strip('-')}.json")


def device_name(device: torch.device) -> str:
    """The model of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1] if found else f"{platform.processor() or platform.machine()}"


def _read(path: Path) -> dict[str, float]:
    """The times in the file; none where it is missing, damaged or of another version."""
    try:
        record = _Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
    return record.times_ms if record.schema_version == SCHEMA_VERSION else {}
