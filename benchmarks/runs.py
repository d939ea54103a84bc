"""Runs of a way with several seeds: one made and timed, added to those before, and the record written."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

import secateur as sc
from secateur.data import ImageSet
from secateur.train import evaluate

Run = dict[str, Any]


def pruned(
    model: nn.Module, inputs: Any, judge: ImageSet, *, seed: int, save_to: Path | None = None, **options: Any
) -> Run:
    """What `prune` makes of a classifier, judged after the cut and after each stage; judging is not in the time."""

    def accuracy(network: nn.Module) -> float:
        started = (time.process_time(), time.perf_counter())
        found = 100 * evaluate(network, judge)["accuracy"]
        spent.append((time.process_time() - started[0], time.perf_counter() - started[1]))
        return found

    spent: list[tuple[float, float]] = []
    start, begun = time.process_time(), time.perf_counter()
    result = sc.prune(model, inputs, evaluate=accuracy, seed=seed, **options)
    assert result.verification is not None
    if save_to is not None:
        result.save(save_to)
    return {
        "seed": seed,
        "before": result.before["accuracy"],
        "stages": {stage["stage"]: stage["accuracy"] for stage in result.stages},
        "accuracy": result.after["accuracy"],
        "macs": result.after["macs"] / result.before["macs"],
        "params": result.after["param_count"] / result.before["param_count"],
        "sizes": {name: len(kept) for name, kept in result.plan.kept.items()},
        "verified": result.verification.ok,
        "cpu_s": time.process_time() - start - sum(cpu for cpu, _ in spent),
        "wall_s": time.perf_counter() - begun - sum(wall for _, wall in spent),
    }


def with_run(held: Mapping[str, Any], run: Run, *, metric: str = "accuracy") -> Run:
    """`mean`, `spread` and `runs` in order of seed, with this run among them in place of one of the same seed."""
    runs = [*(other for other in held.get("runs", []) if other["seed"] != run["seed"]), run]
    runs.sort(key=lambda one: one["seed"])
    values = [one[metric] for one in runs]
    return {"mean": statistics.mean(values), "spread": statistics.pstdev(values), "runs": runs}


def add_run(path: Path, place: Sequence[str], run: Run, *, metric: str = "accuracy") -> Run:
    """The record of this file with a run added under these names, written; one of the same seed is replaced."""
    record = read_record(path)
    held = record
    for name in place[:-1]:
        held = held.setdefault(name, {})
    held[place[-1]] = with_run(held.get(place[-1], {}), run, metric=metric)
    write_record(path, record)
    return record


def read_record(path: Path, empty: Mapping[str, Any] | None = None) -> Run:
    """What is there already."""
    return json.loads(path.read_text()) if path.exists() else dict(empty or {})


def write_record(path: Path, record: Mapping[str, Any] | Sequence[Any]) -> None:
    """The record in place of the one before."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, path)
