"""Exact selection of the k lowest of many scores, against torch and numpy, with the memory that it takes.

    python benchmarks/selection.py [--count 100000000] [--json benchmarks/results/selection.json]

One thread. `reads` is the time over that of one read of the scores (their sum) in the same run. Memory is what a fresh
process holds at its peak beyond the scores, and for masks beyond those, too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from secateur.bench.memory import PEAK, status
from secateur.sparse import select

SHARES = (0.1, 0.5, 0.9, 0.99)
PASSES = 3
"""Over the scores: what is no number, what lies below the bracket, the mask."""
REPEATS = 5


def scores_of(count: int) -> torch.Tensor:
    """Magnitudes of normal weights."""
    generator = torch.Generator().manual_seed(0)
    return torch.empty(count).normal_(generator=generator).abs_()


def ours(scores: torch.Tensor, remove: int) -> object:
    return select.keep_highest([scores], remove)


RIVALS: dict[str, Callable[[torch.Tensor, int], object]] = {
    "secateur": ours,
    "torch.kthvalue": lambda scores, remove: scores > torch.kthvalue(scores, remove).values,
    "torch.topk": lambda scores, remove: torch.topk(scores, remove, largest=False, sorted=False),
    "numpy.partition": lambda scores, remove: scores.numpy() > np.partition(scores.numpy(), remove - 1)[remove - 1],
}


def seconds(task: Callable[[], object], repeats: int = REPEATS) -> float:
    """The shortest of several runs."""
    found: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        found.append(time.perf_counter() - start)
    return min(found)


def timed(scores: torch.Tensor) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for share in SHARES:
        remove = round(share * len(scores))
        read = seconds(lambda: scores.sum(), 2 * REPEATS)
        row = {"share": share, "read_ms": 1e3 * read}
        for name, rival in RIVALS.items():
            repeats = REPEATS if rival is ours else 1
            taken = seconds(lambda rival=rival, remove=remove: rival(scores, remove), repeats)
            row |= {f"{name}_ms": 1e3 * taken, f"{name}_reads": taken / read}
        row["reads_per_pass"] = row["secateur_reads"] / PASSES
        rows.append(row)
    return rows


def extra_memory(name: str, count: int) -> float:
    """Peak memory beyond scores and masks, over the scores; in a process of its own."""
    call = [sys.executable, __file__, "--count", str(count), "--memory", name]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def measured_memory(name: str, count: int) -> float:
    scores = scores_of(count)
    select.keep_highest([scores[:1000]], 10)  # what libraries take once
    before = status(PEAK)
    RIVALS[name](scores, count // 2)
    masks = count if name != "torch.topk" else 0
    used = status(PEAK) - before - masks
    return used / (4 * count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory", choices=list(RIVALS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        print(measured_memory(options.memory, options.count))
        return
    rows = timed(scores_of(options.count))
    memory = {name: extra_memory(name, options.count) for name in RIVALS}
    for row in rows:
        shown = "  ".join(f"{name} {row[f'{name}_ms']:.0f} ms ({row[f'{name}_reads']:.1f} reads)" for name in RIVALS)
        print(f"{row['share']:.0%} of {options.count:,}: {shown}; {row['reads_per_pass']:.2f} reads a pass")
    print("extra memory over the scores:", {name: f"{share:.1%}" for name, share in memory.items()})
    if options.json:
        about = {"torch": torch.__version__, "numpy": np.__version__, "machine": platform.machine()}
        record = {"count": options.count, "passes": PASSES, "rows": rows, "extra_memory": memory, "about": about}
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, options.json)


if __name__ == "__main__":
    main()
