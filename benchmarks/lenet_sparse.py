"""The LeNets on MNIST with a twelfth, a fifty-sixth and a hundred-and-eighth of their parameters, trained here.

    SECATEUR_DATA=... python benchmarks/lenet_sparse.py [--seeds 0 1 2] [--models lenet300 lenet5-caffe]
    SECATEUR_DATA=... python benchmarks/lenet_sparse.py --held-out

Each network is trained (the Caffe one then loses half of its channels) and pruned little by little while it trains on
(`SparsitySchedule`, with one threshold for all tensors and no memory); `prune` takes the zeros over, with its
proof, and what is left is trained with these masks, saved, loaded and judged on the 10,000 test images. Ratios are
those of all parameters to those that are not zero in the end, biases included. All training, that of the networks
before included, sees each image shifted by up to one pixel; no distillation.

Settings were chosen with images held out: `--held-out` trains on 50,000 of the training images, judges on the other
10,000 and writes nothing. The test images are read by the final runs alone. A seed sets the first weights, the order of
the images and their shifts. Each run goes to benchmarks/results and to docs/sparse-weights.md; runs that are there
already with the same settings are not repeated.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from page import write_between_markers
from torch import nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs
from secateur.sparse import as_tensors
from secateur.train import TrainConfig, evaluate, fit
from secateur.train.methods import SparsitySchedule, Weights

ROOT = Path(__file__).parent
RESULT = ROOT / "results" / "lenet_sparse.json"
PAGE = ROOT.parent / "docs" / "sparse-weights.md"
HELD_OUT = 10_000
SETTLED_SEEDS = 100
"""Added to a seed for the second half, so that it sees the images in another order."""
RISE = 0.7
"""Share of the steps with moving masks in which the sparsity rises."""
SHIFT = 1
"""Pixels, at most, by which augmentation shifts an image."""


@dataclass(frozen=True)
class Case:
    """A network, how much smaller it gets, and the error that it may have then."""

    model: str
    ratio: int
    largest_error: float
    """In percent: to be met by the mean over the seeds."""
    dense: TrainConfig
    moving: TrainConfig
    settled: TrainConfig
    channels: float = 1.0
    """Share of the channels that is kept before single weights go: the rest leaves for good."""


DENSE = TrainConfig(epochs=6, learning_rate=0.1, augment=True)
MOVING = TrainConfig(epochs=15, optimizer="adamw", learning_rate=3e-3, weight_decay=0, schedule="cosine", augment=True)
CASES = (
    Case("lenet300", 12, 1.59, DENSE, replace(MOVING, epochs=10), replace(MOVING, epochs=8)),
    Case("lenet300", 56, 1.99, DENSE, MOVING, MOVING),
    Case(
        "lenet5-caffe",
        108,
        0.91,
        replace(DENSE, epochs=4, learning_rate=0.05),
        replace(MOVING, epochs=8),
        replace(MOVING, epochs=14, learning_rate=2e-3),
        channels=0.5,
    ),
)


def images(*, held_out: bool) -> tuple[ImageSet, ImageSet]:
    """What is trained on, and what is judged on."""
    train = replace(open_data("mnist", "train"), shift=SHIFT)
    if not held_out:
        return train, open_data("mnist", "test")
    return train.split(HELD_OUT)


def dense(case: Case, train: ImageSet, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model(case.model).to(memory_format=torch.channels_last)  # twice as fast on a CPU
    fit(model, train, config=replace(case.dense, seed=seed))
    return model


def pruned(case: Case, network: nn.Module, train: ImageSet, seed: int) -> sc.PruneResult:
    """A copy of the trained network, pruned to the case's ratio and trained on with its masks."""
    model, inputs = copy.deepcopy(network), example_inputs(case.model)
    total = param_count(model)
    if case.channels < 1:
        model = sc.prune(model, inputs, budget={"channels": case.channels}).model
    share = sparsity_for(model, total // case.ratio)
    steps = round(RISE * case.moving.epochs * (len(train) // case.moving.batch_size))
    schedule = SparsitySchedule(Weights(model, sparsity=share), steps=steps, memory=0)
    fit(model, train, config=replace(case.moving, seed=seed), methods=[schedule])
    result = sc.prune(model, inputs, granularity="element", budget={"sparsity": share}, allocator="global")
    settled = replace(case.settled, seed=seed + SETTLED_SEEDS)
    fit(result.model, train, config=settled, masks=as_tensors(result.masks))
    return result


def run(case: Case, network: nn.Module, train: ImageSet, test: ImageSet, seed: int) -> dict[str, Any]:
    """Prune, save, load, and judge."""
    start = time.perf_counter()
    total, result = param_count(network), pruned(case, network, train, seed)
    with tempfile.TemporaryDirectory() as folder:
        loaded = sc.load(result.save(folder), build_model(case.model))
    assert result.verification is not None
    kept = {name: int(parameter.count_nonzero()) for name, parameter in loaded.named_parameters()}
    return {
        "seed": seed,
        "dense_error": error(network, test),
        "error": error(loaded, test),
        "ratio": total / sum(kept.values()),
        "kept": kept,
        "verified": result.verification.ok,
        "seconds": time.perf_counter() - start,
    }


def param_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def sparsity_for(model: nn.Module, left: int) -> float:
    """The share of the weights that has to go for so many parameters to be left, biases included."""
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    return 1 - (left - (param_count(model) - weights)) / weights


def error(model: nn.Module, data: ImageSet) -> float:
    """Wrong answers in percent."""
    return 100 * (1 - evaluate(model, data)["accuracy"])


def stored(case: Case, runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {**asdict(case), "runs": sorted(runs, key=lambda row: row["seed"])}


def already_run(case: Case) -> list[dict[str, Any]]:
    """Runs of the results file with the same settings."""
    if not RESULT.exists():
        return []
    cases = json.loads(RESULT.read_text())["cases"]
    return [row for found in cases if stored(case, []) == {**found, "runs": []} for row in found["runs"]]


def write(runs: dict[Case, list[dict[str, Any]]]) -> None:
    """The results file and the table on the page."""
    cases = [stored(case, rows) for case, rows in runs.items() if rows]
    temporary = RESULT.with_suffix(".tmp")
    temporary.write_text(json.dumps({"torch": torch.__version__, "cases": cases}, indent=1) + "\n")
    os.replace(temporary, RESULT)
    write_between_markers(PAGE, "lenet", table(cases))


def table(cases: list[dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "| network | fewer parameters | left | seeds | error before, % | error after, % | mean | asked for |",
        "|---|---:|---:|---|---|---|---:|---:|",
    ]
    for case in cases:
        rows = case["runs"]
        seeds = ", ".join(str(row["seed"]) for row in rows)
        before, after = (", ".join(f"{row[key]:.2f}" for row in rows) for key in ("dense_error", "error"))
        mean = statistics.mean(row["error"] for row in rows)
        ratio, left = min(row["ratio"] for row in rows), max(sum(row["kept"].values()) for row in rows)
        lines.append(
            f"| `{case['model']}` | {ratio:.1f} x | {left:,} | {seeds} | {before} | {after} | {mean:.2f} | "
            f"{case['largest_error']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", nargs="+", default=sorted({case.model for case in CASES}))
    parser.add_argument("--held-out", action="store_true", help="judge on held-out training images, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = images(held_out=options.held_out)
    for seed in options.seeds:
        networks: dict[str, nn.Module] = {}
        for case in CASES:
            done = not options.held_out and any(row["seed"] == seed for row in already_run(case))
            if case.model not in options.models or done:
                continue
            if case.model not in networks:
                networks[case.model] = dense(case, train, seed)
            row = run(case, networks[case.model], train, test, seed)
            print(case.model, case.ratio, row, flush=True)
            if not options.held_out:
                write({one: [*already_run(one), *([row] if one is case else [])] for one in CASES})
    if not options.held_out:
        write({case: already_run(case) for case in CASES})


if __name__ == "__main__":
    main()
