"""ResNet-20 on CIFAR-10, single weights removed without training: second order, magnitude and random side by side.

    SECATEUR_DATA=... python benchmarks/second_order.py

Published weights that were fine-tuned on the JPEG images, judged on all 10,000 JPEG test images. Every convolution,
the first one too, and the classifier are pruned; sparsity is of all their weights together. 2,048 training images for
calibration, whose labels are not read, shifted and mirrored anew each time they are read; three seeds draw them (and
the random weights). One run goes down the ladder of sparsities, each step starting from the one before and led by the
dense network. Nothing was chosen by looking at test images: other training images served for that.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from calibration import Augmented
from page import write_between_markers
from torch import nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs, load_weights
from secateur.sparse import sparsity
from secateur.sparse.reconstruction import reconstruct
from secateur.train import evaluate

RESULT = Path(__file__).parent / "results" / "second_order.json"
PAGE = Path(__file__).parent.parent / "docs" / "sparse-weights.md"
LADDER = (0.5, 0.6, 0.7, 0.8, 0.9)
SEEDS = (0, 1, 2)
IMAGES = 2048


def second_order(dense: nn.Module, images: ImageSet, seed: int) -> Iterator[nn.Module]:
    sparse, data = copy.deepcopy(dense), Augmented(images)
    for wanted in LADDER:
        found = reconstruct(sparse, data, sparsity=wanted, reference=dense, seed=seed)
        sparse.load_state_dict({**sparse.state_dict(), **found.weights})
        yield sparse


def by_scores(criterion: str, dense: nn.Module, seed: int) -> Iterator[nn.Module]:
    for wanted in LADDER:
        yield sc.prune(
            dense,
            example_inputs("resnet20"),
            granularity="element",
            budget={"sparsity": wanted},
            criterion=criterion,
            allocator="global",
            seed=seed,
        ).model


def measure(test: ImageSet, networks: Iterator[nn.Module]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    start = time.process_time()
    for wanted, network in zip(LADDER, networks, strict=True):
        seconds = time.process_time() - start
        found[f"{wanted:g}"] = {
            "accuracy": 100 * evaluate(network, test)["accuracy"],
            "sparsity": sparsity(network),
            "cpu_s": seconds,
        }
        print(wanted, found[f"{wanted:g}"], flush=True)
        start = time.process_time()
    return found


def summary(base: float, runs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for wanted in runs[0]:
        values = [run[wanted]["accuracy"] for run in runs]
        rows[wanted] = {
            "accuracy": values,
            "points_lost": base - statistics.mean(values),
            "spread": statistics.pstdev(values),
            "sparsity": runs[0][wanted]["sparsity"],
            "cpu_s": statistics.mean(run[wanted]["cpu_s"] for run in runs),
        }
    return rows


def table(result: dict[str, Any]) -> str:
    """Accuracy by sparsity, as Markdown."""
    lines = ["| zeros | second order | points lost | magnitude | random |", "|---:|---:|---:|---:|---:|"]
    for wanted, row in result["second-order"].items():
        others = [statistics.mean(result[name][wanted]["accuracy"]) for name in ("magnitude", "random")]
        mean = statistics.mean(row["accuracy"])
        lines.append(
            f"| {float(wanted):.0%} | {mean:.2f} +- {row['spread']:.2f} | {row['points_lost']:.2f} | "
            f"{others[0]:.2f} | {others[1]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page-only", action="store_true", help="write the page from the results that are there")
    parser.add_argument("--hold-out", action="store_true", help="judge on training images that calibration never sees")
    options = parser.parse_args()
    if options.page_only:
        write_between_markers(PAGE, "second-order", table(json.loads(RESULT.read_text())))
        return
    torch.set_num_threads(options.threads)
    dense = build_model("resnet20")
    load_weights(dense, Path(os.environ["SECATEUR_DATA"]) / "resnet20-cifar10-jpeg.safetensors")
    dense.eval()
    train = open_data("cifar10", "train")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(99))
    pool, rest = (
        ImageSet(train.images[part], train.labels[part], train.classes, train.mean, train.std)
        for part in (chosen[:40_000], chosen[40_000:])
    )
    test = rest.subset(2000, 0) if options.hold_out else open_data("cifar10", "test")
    base = 100 * evaluate(dense, test)["accuracy"]
    print("dense", base, flush=True)
    result: dict[str, Any] = {"dense": base, "images": IMAGES, "seeds": SEEDS, "threads": options.threads}
    for name in ("second-order", "magnitude", "random"):
        runs: list[dict[str, dict[str, float]]] = []
        for seed in SEEDS[:1] if options.hold_out or name == "magnitude" else SEEDS:
            made = (
                second_order(dense, pool.subset(IMAGES, seed), seed)
                if name == "second-order"
                else by_scores(name, dense, seed)
            )
            runs.append(measure(test, made))
            result[name] = summary(base, runs)
            if not options.hold_out:
                RESULT.write_text(json.dumps(result, indent=1) + "\n")
    if not options.hold_out:
        write_between_markers(PAGE, "second-order", table(result))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
