"""By how much memory grows during a forward."""

from __future__ import annotations

import ctypes
import statistics
from pathlib import Path

import torch

from secateur.bench.engines import Forward

RUNS = 3
PEAK, NOW = "VmHWM:", "VmRSS:"
"""Lines of /proc/self/status."""


def working_bytes(forward: Forward, device: torch.device) -> int | None:
    """The most that one forward takes beside the weights, the median of some runs; its results are part of it.

    On the CPU this is the growth of the resident memory, which Linux alone tells: None elsewhere.
    """
    measure = _on_cuda if device.type == "cuda" else _on_cpu
    try:
        forward()
        return int(statistics.median(measure(forward) for _ in range(RUNS)))
    except OSError:
        return None


def _on_cpu(forward: Forward) -> int:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)  # else memory that earlier runs gave back to the allocator is taken again without growth
    reset_peak()
    before = status(NOW)
    forward()
    return max(0, status(PEAK) - before)


def reset_peak() -> None:
    """Let the peak of this process start anew."""
    Path("/proc/self/clear_refs").write_text("5")


def status(line: str) -> int:
    """Bytes of this process, `PEAK` or `NOW`. Raises OSError where the system does not tell."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith(line):
            return int(row.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {line}")


def _on_cuda(forward: Forward) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    forward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
