"""Half of the channels of real networks with random weights: what goes, how exact it is, how long it takes, and what
the result goes through afterwards; and the same request made of Torch-Pruning.

    python benchmarks/coverage.py [--zoo DIR_OR_FILE ...] [--only PATTERN ...] [--heavy] [--resume] [--page FILE]

A zoo is a file (or the folder of a `zoo.py`) with a function `entries()`, whose items have `name` and
`build() -> (model, inputs)`; without one the networks of the tests are taken. Each network runs in a process of its
own, one after the other, on one thread; the two tools take turns. Seconds are CPU seconds. Before, a network's zeros
are filled and its norms see its inputs, so that differences reach the outputs. Needs torchvision, timm, transformers
and torch-pruning (`pip install -e '.[models,bench]'`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tvshim  # noqa: F401  (before anything imports torchvision)

# isort: split
import rival
import torch
from coverage_page import write_page
from isolation import isolated
from soundness import checks
from torch import nn
from zoos import OWN, awake, entries_of

import secateur as sc
from secateur.cli.overview import reasons
from secateur.structure import trace_program
from secateur.structure.capture import normalise_inputs
from secateur.surgery import eval_outputs, verify_traced

RESULT = Path(__file__).parent / "results" / "coverage.json"
BUDGET = {"channels": 0.5}
TIMEOUT_S = 120
QUICK_S = 5.0
"""Networks that take less are measured again, in turns."""


def ours(entry: Any) -> Iterator[dict[str, Any]]:
    """Seconds, then what the result is like, then one check after the other."""
    model, inputs = awake(entry)
    yield from our_seconds(model, inputs)
    result = sc.prune(model, inputs, budget=BUDGET)
    proof = result.verification
    assert proof is not None
    yield {
        "prunable_share": result.structure.prunable_share(),
        "params_removed": 1 - result.after["param_count"] / result.before["param_count"],
        "macs_removed": 1 - result.after["macs"] / max(1, result.before["macs"]),
        "relative_diff": proof.relative_diff,
        "verified": proof.ok,
        "detail": proof.detail,
        "effect": _effect(model, result.model, inputs),
        "reasons": [{**reason, "axes": len(reason["axes"])} for reason in reasons(result.structure)[:4]],
        "checks": (made := {}),
    }
    for name, outcome in checks(model, inputs, result, lambda: entry.build()[0]):
        made[name] = outcome
        yield {"checks": made}


def our_seconds(model: nn.Module, inputs: Any) -> Iterator[dict[str, Any]]:
    given, marks = normalise_inputs(inputs), [time.process_time()]
    traced = trace_program(model, given, blocks=False)  # whole blocks have no counterpart on the other side
    marks.append(time.process_time())
    scores = sc.score(model, traced.structure, criterion="l2")
    plan = sc.allocate(traced.structure, scores, BUDGET)
    small = sc.shrink(model, plan)
    marks.append(time.process_time())
    verify_traced(model, small, plan, given, traced)
    marks.append(time.process_time())
    yield dict(zip(("trace_s", "cut_s", "verify_s"), (b - a for a, b in pairwise(marks)), strict=True))


def theirs(entry: Any) -> dict[str, Any]:
    """The best that it does in any of its modes."""
    best: dict[str, Any] = {}

    def rank(made: dict[str, Any]) -> int:
        return rival.VERDICTS.index(made["verdict"])

    for mode in rival.MODES:
        made = {"verdict": "crash", **isolated(partial(_theirs_in, entry, mode), TIMEOUT_S)}
        best = made if not best or rank(made) > rank(best) else best
        if best["verdict"] == "full" or made["status"] == "timeout":
            break
    return best


def _theirs_in(entry: Any, mode: str) -> Iterator[dict[str, Any]]:
    yield from rival.run(*awake(entry), mode)


def _effect(model: nn.Module, small: nn.Module, inputs: Any) -> float:
    """How far the cut moves the outputs, over the largest: where it does not, the proof says nothing."""
    given = normalise_inputs(inputs)
    pairs = list(zip(eval_outputs(model, given), eval_outputs(small, given), strict=False))
    same = [(a.double(), b.double()) for a, b in pairs if a.shape == b.shape and a.numel()]
    largest = max((float(a.nan_to_num().abs().max()) for a, _ in same), default=0.0)
    moved = max((float((a - b).nan_to_num().abs().max()) for a, b in same), default=0.0)
    return moved / largest if largest else 0.0


def measure(entry: Any, rounds: int) -> dict[str, Any]:
    """One row; the two tools take turns."""
    own = isolated(lambda: ours(entry), TIMEOUT_S)
    other = theirs(entry)
    own_s, other_s = [_seconds(own, "trace_s", "cut_s")], [_seconds(other, "graph_s", "prune_s")]
    while len(own_s) < rounds and None not in (own_s[-1], other_s[-1]) and own_s[-1] + other_s[-1] < QUICK_S:
        own_s.append(_seconds(isolated(lambda: our_seconds(*awake(entry)), TIMEOUT_S), "trace_s", "cut_s"))
        other_s.append(_seconds(isolated(partial(_theirs_in, entry, other["mode"]), TIMEOUT_S), "graph_s", "prune_s"))
    return {
        "network": entry.name,
        "secateur": {**own, "cpu_s": _median(own_s)},
        "torch_pruning": {**other, "cpu_s": _median(other_s)},
    }


def _seconds(record: dict[str, Any], *keys: str) -> float | None:
    return sum(record[key] for key in keys) if all(key in record for key in keys) else None


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def warm_up() -> None:
    """What both tools load at their first call is loaded before the forks."""
    for tool in (our_seconds, lambda *given: rival.run(*given, "head width")):
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
        list(tool(network, torch.randn(1, 3, 8, 8)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", nargs="+", default=[str(OWN)], help="files or folders with networks")
    parser.add_argument("--only", nargs="+", default=["*"], help="names or patterns, such as 'tv/resnet*'")
    parser.add_argument("--heavy", action="store_true", help="those that the zoo calls heavy, too")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument("--rounds", type=int, default=3, help="times that a quick network is measured")
    parser.add_argument("--result", type=Path, default=RESULT, help="where the rows go")
    parser.add_argument("--page", type=Path, help="page with markers that the table goes between")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = json.loads(options.result.read_text())["rows"] if options.resume and options.result.exists() else []
    done = {row["network"] for row in rows}
    warm_up()
    for entry in entries_of(options.zoo, options.only, heavy=options.heavy):
        if entry.name not in done:
            rows.append(measure(entry, options.rounds))
            _write(options.result, rows)
            print(_line(rows[-1]), flush=True)
    if options.page is not None:
        write_page(options.page, json.loads(options.result.read_text()))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    made_with = {name: version(name) for name in ("torch", "torch-pruning")}
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps({"budget": "channels=0.5", **made_with, "rows": rows}, indent=1) + "\n")
    temporary.replace(path)


def _line(row: dict[str, Any]) -> str:
    own, other = row["secateur"], row["torch_pruning"]
    failed = [name for name, outcome in own.get("checks", {}).items() if outcome is not None]
    return (
        f"{row['network']:45} {own['status'][:60]} verified {own.get('verified')} diff {own.get('relative_diff')} "
        f"effect {own.get('effect')} cpu {own['cpu_s']} not: {failed} | {other['verdict']} cpu {other['cpu_s']}"
    )


if __name__ == "__main__":
    main()
