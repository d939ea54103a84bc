"""Networks that nobody designed: half of the multiply-accumulates of `nas:0`, `nas:1`, ..., by L2 norms, in one call.

    python benchmarks/random_networks.py [--count 1000] [--seconds N]

Goes on where it stopped, or was stopped after N seconds. Before, norms see the inputs, so that differences reach the
outputs. A network counts as pruned when the smaller one is verified and within the budget; as refused when the budget
is out of reach and the nearest that the refusal names is larger, and can be had; as failed else. Graphs are alike when
they have the same operators, wired alike.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from runs import Run, read_record, write_record
from torch import nn
from zoos import awake

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.spec import BudgetError
from secateur.structure import trace_program
from secateur.structure.capture import normalise_inputs

RESULT = Path(__file__).parent / "results" / "random_networks.json"
BUDGET = 0.5
NEAREST = re.compile(r"the nearest possible is macs=([0-9.e-]+)")


def measure(seed: int) -> Run:
    """One row."""
    name = f"nas:{seed}"
    model, inputs = awake(SimpleNamespace(build=lambda: (build_model(name), example_inputs(name))))
    row: Run = {"seed": seed, "graph": graph(model, inputs)}
    start = time.process_time()
    try:
        row |= outcome(model, inputs)
    except Exception as error:  # whatever it is, it is the result
        row |= {"outcome": "failed", "detail": f"{type(error).__name__}: {error}"}
    return {**row, "cpu_s": round(time.process_time() - start, 3)}


def graph(model: nn.Module, inputs: Any) -> str:
    """Hash of the operators in order, with the tensors that each reads."""
    program = trace_program(model, normalise_inputs(inputs), blocks=False).program
    steps = [(str(op.target), op.reads, tuple(op.outputs)) for op in program.ops]
    return hashlib.sha256(repr(steps).encode()).hexdigest()[:16]


def outcome(model: nn.Module, inputs: Any) -> Run:
    """What became of the request."""
    try:
        return pruned(model, inputs, BUDGET)
    except BudgetError as error:
        nearest = NEAREST.search(str(error))
        if nearest is None or float(nearest[1]) <= BUDGET:
            raise
        return {**pruned(model, inputs, float(nearest[1])), "outcome": "refused", "detail": str(error)}


def pruned(model: nn.Module, inputs: Any, budget: float) -> Run:
    """Sizes and proof; raises ValueError where a promise is broken."""
    result = sc.prune(model, inputs, budget={"macs": budget}, criterion="l2")
    proof, left = result.verification, result.after["macs"] / result.before["macs"]
    if proof is None or not proof.ok or left > budget:
        raise ValueError(f"{left:.4f} of the MACs left; {proof}")
    return {
        "outcome": "pruned",
        "macs_before": result.before["macs"],
        "params_before": result.before["param_count"],
        "macs": round(left, 4),
        "params": round(result.after["param_count"] / result.before["param_count"], 4),
        "relative_diff": proof.relative_diff,
    }


def summary(rows: list[Run]) -> Run:
    """Counts over all rows."""
    counts = Counter(row["outcome"] for row in rows)
    return {
        "networks": len(rows),
        "distinct_graphs": len({row["graph"] for row in rows}),
        **{name: counts[name] for name in ("pruned", "refused", "failed")},
        "largest_relative_diff": max((row.get("relative_diff", 0.0) for row in rows), default=0.0),
        "cpu_s": round(sum(row["cpu_s"] for row in rows), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="seeds, from 0")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, end = read_record(RESULT, {"rows": []})["rows"], time.monotonic() + options.seconds
    done = {row["seed"] for row in rows}
    for seed in range(options.count):
        if seed in done:
            continue
        if time.monotonic() > end:
            break
        rows = sorted([*rows, measure(seed)], key=lambda row: row["seed"])
        made_with = {"budget": f"macs={BUDGET}", "criterion": "l2", "torch": torch.__version__}
        write_record(RESULT, {**made_with, "summary": summary(rows), "rows": rows})
    print(summary(rows))
    for row in rows:
        if row["outcome"] != "pruned":
            print(row["seed"], row["outcome"], row["detail"])


if __name__ == "__main__":
    main()
