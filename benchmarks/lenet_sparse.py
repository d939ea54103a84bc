"""The LeNets on MNIST with a twelfth, a fifty-sixth and a hundredth of their parameters, trained here.

    SECATEUR_DATA=... python benchmarks/lenet_sparse.py [--seeds 0 1 2] [--json FILE] [--page docs/sparse-weights.md]
    SECATEUR_DATA=... python benchmarks/lenet_sparse.py --held-out

Each network is trained, then pruned while it trains on (`secateur.sparse.Regrowing`), and what is left is taken over by
`prune`, with its proof, saved, loaded and judged on the 10,000 test images. Ratios count every parameter that is not
zero, biases included. No augmentation, no distillation.

Settings were chosen with `--held-out`, which trains on 50,000 of the training images and judges on the other 10,000;
the test images are read by the final runs alone. A seed sets the first weights and the order of the images.
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
from secateur.data.images import drawn
from secateur.models import build_model, example_inputs
from secateur.sparse import Regrowing
from secateur.train import TrainConfig, evaluate, fit

HELD_OUT = 10_000
RISE = 0.5
"""Share of the pruning steps in which the sparsity rises."""


@dataclass(frozen=True)
class Case:
    """A network, how much smaller it gets, and the error that it may have then."""

    model: str
    ratio: int
    largest_error: float
    """In percent."""
    dense: TrainConfig
    pruning: TrainConfig


DENSE_300 = TrainConfig(epochs=8, learning_rate=0.1)
DENSE_5 = TrainConfig(epochs=4, learning_rate=0.05)
PRUNING = TrainConfig(optimizer="adamw", weight_decay=0, schedule="cosine")
CASES = (
    Case("lenet300", 12, 1.6, DENSE_300, replace(PRUNING, epochs=20, learning_rate=1e-3)),
    Case("lenet300", 56, 2.0, DENSE_300, replace(PRUNING, epochs=40, learning_rate=2e-3)),
    Case("lenet5-caffe", 100, 0.95, DENSE_5, replace(PRUNING, epochs=10, learning_rate=2e-3)),
)


def images(*, held_out: bool) -> tuple[ImageSet, ImageSet]:
    """What is trained on, and what is judged on."""
    train = open_data("mnist", "train")
    if not held_out:
        return train, open_data("mnist", "test")
    chosen = torch.zeros(len(train), dtype=torch.bool)
    chosen[drawn(len(train), HELD_OUT, seed=0)] = True
    return tuple(replace(train, images=train.images[part], labels=train.labels[part]) for part in (~chosen, chosen))


def dense(case: Case, train: ImageSet, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = build_model(case.model)
    fit(model, train, config=replace(case.dense, seed=seed))
    return model


def run(case: Case, network: nn.Module, train: ImageSet, test: ImageSet, seed: int) -> dict[str, Any]:
    """Prune a copy of the trained network to the case's ratio."""
    start = time.perf_counter()
    model, config = copy.deepcopy(network), replace(case.pruning, seed=seed)
    share = sparsity_for(model, case.ratio)
    steps = round(RISE * config.epochs * (len(train) // config.batch_size))
    fit(model, train, config=config, after_step=Regrowing(model, sparsity=share, steps=steps))
    inputs = example_inputs(case.model)
    result = sc.prune(model, inputs, granularity="element", budget={"sparsity": share}, allocator="global")
    with tempfile.TemporaryDirectory() as folder:
        loaded = sc.load(result.save(folder), build_model(case.model))
    kept = {name: int(parameter.count_nonzero()) for name, parameter in loaded.named_parameters()}
    return {
        "seed": seed,
        "dense_error": error(network, test),
        "error": error(loaded, test),
        "ratio": sum(parameter.numel() for parameter in model.parameters()) / sum(kept.values()),
        "kept": kept,
        "verified": result.verification.ok,
        "seconds": time.perf_counter() - start,
    }


def sparsity_for(model: nn.Module, ratio: int) -> float:
    """The share of the weights that has to go for all parameters together to be `ratio` times fewer."""
    total = sum(parameter.numel() for parameter in model.parameters())
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() > 1)
    return 1 - (total // ratio - (total - weights)) / weights


def error(model: nn.Module, data: ImageSet) -> float:
    """Wrong answers in percent."""
    return 100 * (1 - evaluate(model, data)["accuracy"])


def table(record: dict[str, Any]) -> str:
    """The result as Markdown."""
    seeds = ", ".join(map(str, record["seeds"]))
    lines = [
        f"Seeds {seeds}; errors in percent of the 10,000 test images, each seed's and their mean. Parameters that are "
        "left include all biases.",
        "",
        "| network | fewer parameters | left | error before | error after | mean | asked for |",
        "|---|---:|---:|---|---|---:|---:|",
    ]
    for case in record["cases"]:
        rows = case["runs"]
        before, after = ([f"{row[key]:.2f}" for row in rows] for key in ("dense_error", "error"))
        mean = statistics.mean(row["error"] for row in rows)
        ratio, left = min(row["ratio"] for row in rows), max(sum(row["kept"].values()) for row in rows)
        lines.append(
            f"| `{case['model']}` | {ratio:.1f} x | {left:,} | {', '.join(before)} | {', '.join(after)} | {mean:.2f} | "
            f"{case['largest_error']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", nargs="+", default=sorted({case.model for case in CASES}))
    parser.add_argument("--held-out", action="store_true", help="judge on held-out training images")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a page with markers, into which the table goes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = images(held_out=options.held_out)
    cases = [case for case in CASES if case.model in options.models]
    runs: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
    for seed in options.seeds:
        networks: dict[str, nn.Module] = {}
        for case in cases:
            if case.model not in networks:
                networks[case.model] = dense(case, train, seed)
            runs[case].append(run(case, networks[case.model], train, test, seed))
            print(case.model, case.ratio, runs[case][-1], flush=True)
    record = {
        "torch": torch.__version__,
        "held_out": options.held_out,
        "seeds": options.seeds,
        "cases": [{**asdict(case), "runs": runs[case]} for case in cases],
    }
    print(table(record))
    if options.json:
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, options.json)
    if options.page:
        write_between_markers(options.page, "lenet", table(record))


if __name__ == "__main__":
    main()
