"""Budgets in measured time: how well the time of a plan is predicted, and what a budget in time wins over one in MACs.

    python benchmarks/latency.py [--json benchmarks/results/latency.json] [--page docs/budgets.md]

One thread, batch 1, random weights, criterion `l2`, allocator `uniform`. Speedups are medians over rounds in which all
networks run in turn, in CPU time, because other work on the machine is not to count. Errors are those of the predicted
speedup. Operators are timed from scratch, with no times kept from earlier runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tvshim  # noqa: F401  (before anything imports torchvision)

# isort: split
import torch
from page import write_between_markers
from torch import nn

import secateur as sc
from secateur.cost.latency_model import latency_model
from secateur.cost.table import LatencyTable, device_name
from secateur.models import build_model
from secateur.structure import trace_program

NETWORKS: Mapping[str, tuple[int, ...]] = {
    "resnet20": (3, 32, 32),
    "vgg9_bn": (3, 32, 32),
    "torchvision:mobilenet_v2": (3, 96, 96),
    "timm:vit_tiny_patch16_224": (3, 224, 224),
}
PLANS: Sequence[tuple[str, float, int | str]] = (
    *((unit, value, 1) for unit in ("latency", "macs") for value in (0.8, 0.6)),
    ("latency", 0.6, "auto"),
    ("macs", 0.6, "auto"),
    ("macs", 0.6, 8),
)
"""(unit, what is kept, round_to)."""
ROUNDS, WARMUP = 100, 3


def measured(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    torch.manual_seed(0)
    model, inputs = build_model(name).eval(), (torch.randn(1, *shape),)
    traced = trace_program(model, inputs, blocks=False)
    started = time.perf_counter()
    latency = latency_model(model, inputs, traced=traced, table=LatencyTable())
    scores = sc.score(model, traced.structure, criterion="l2")
    rows: list[dict[str, Any]] = []
    networks = [model]
    for unit, value, round_to in PLANS:
        plan = sc.allocate(traced.structure, scores, {unit: value}, round_to=round_to, latency=latency)
        networks.append(sc.shrink(model, plan).eval())
        rows.append(
            {
                "budget": f"{unit}={value}",
                "round_to": round_to,
                "macs": sc.CostModel(traced.structure, "macs").at(plan.sizes),
                "predicted_ms": latency.at(plan.sizes),
            }
        )
    seconds = time.perf_counter() - started
    for row, speedup in zip(rows, in_turn(networks, inputs)[1:], strict=True):
        predicted = latency.at({}) / row["predicted_ms"]
        row |= {"predicted_speedup": predicted, "speedup": speedup, "error": predicted / speedup - 1}
        print(name, {key: round(cell, 3) if isinstance(cell, float) else cell for key, cell in row.items()}, flush=True)
    return {"network": name, "input": shape, "seconds": seconds, "whole_ms": latency.at({}), "plans": rows}


def in_turn(networks: Sequence[nn.Module], inputs: tuple[torch.Tensor, ...]) -> list[float]:
    """How many times as fast as the first network each is: the median over rounds in which each runs once."""
    ratios: list[list[float]] = [[] for _ in networks]
    with torch.inference_mode():
        for _ in range(WARMUP + ROUNDS):
            times = [once(network, inputs) for network in networks]
            for own, taken in zip(ratios, times, strict=True):
                own.append(times[0] / taken)
    return [statistics.median(own[WARMUP:]) for own in ratios]


def once(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    start = time.thread_time()
    network(*inputs)
    return time.thread_time() - start


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: what a budget of 0.6 wins in time, and how far predictions are off."""
    lines = [
        "| network | `macs=0.6` | `macs=0.6`, `round_to=8` | `macs=0.6`, `auto` | `latency=0.6` | "
        "`latency=0.6`, `auto` | error of predicted speedups |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    columns = [("macs=0.6", 1), ("macs=0.6", 8), ("macs=0.6", "auto"), ("latency=0.6", 1), ("latency=0.6", "auto")]
    for record in records:
        found = {(row["budget"], row["round_to"]): row["speedup"] for row in record["plans"]}
        errors = [abs(row["error"]) for row in record["plans"]]
        cells = " | ".join(f"{found[column]:.2f} x" for column in columns)
        lines.append(
            f"| {record['network']} | {cells} | median {statistics.median(errors):.0%}, at most {max(errors):.0%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a page with markers, into which the table goes")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), help="some of the networks")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    records = [measured(name, NETWORKS[name]) for name in options.only]
    print(table(records))
    if options.json:
        about = {"torch": torch.__version__, "device": device_name(torch.device("cpu")), "threads": 1}
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps({"networks": records, "about": about}, indent=1) + "\n")
        os.replace(temporary, options.json)
    if options.page:
        write_between_markers(options.page, "latency", table(records))


if __name__ == "__main__":
    main()
