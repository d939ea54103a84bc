"""Retraining a pruned network with few labels: what a teacher, averages, smoothing and mixing are worth.

    SECATEUR_DATA=... python benchmarks/retraining.py

LeNet-5 on MNIST. The dense network is trained once per seed on all images, a quarter of its channels stays by l1, and
the same number of steps retrains the same cut in every way. Writes `results/retraining.json` and the table of
docs/training.md.
"""

from __future__ import annotations

import copy
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from page import write_between_markers
from torch import nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs
from secateur.train import Distillation, TrainConfig, evaluate, fit

ROOT = Path(__file__).parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "retraining.json", ROOT / "docs" / "training.md"
SEEDS = (0, 1, 2)
LABELLED, STEPS = 1000, 300
DENSE = TrainConfig(epochs=2, batch_size=64, learning_rate=0.05)
RETRAIN = TrainConfig(epochs=STEPS, max_steps=STEPS, batch_size=64, learning_rate=0.02, schedule="cosine")


@dataclass(frozen=True)
class Way:
    """One way to retrain."""

    options: Mapping[str, float]
    alpha: float | None = None
    """Of the distillation, if any."""
    all_images: bool = False
    """Trained on all training images, whose labels `alpha=1` does not read."""


WAYS = {
    "labels alone": Way({}),
    "labels, smoothed by 0.1": Way({"label_smoothing": 0.1}),
    "labels, mixup 0.2": Way({"mixup": 0.2}),
    "labels, average 0.95": Way({"ema": 0.95}),
    "labels and teacher, alpha 0.5": Way({}, alpha=0.5),
    "labels and teacher, alpha 0.9": Way({}, alpha=0.9),
    "teacher alone, the same images": Way({}, alpha=1.0),
    "teacher alone, all images without labels": Way({}, alpha=1.0, all_images=True),
}


def main() -> None:
    torch.set_num_threads(1)
    train, test = (open_data("mnist", split, input_shape=(1, 32, 32)) for split in ("train", "test"))
    rows: dict[str, list[float]] = {name: [] for name in ("dense", "cut", *WAYS)}
    for seed in SEEDS:
        dense = build_model("lenet5", seed=seed)
        fit(dense, train, config=replace(DENSE, seed=seed))
        cut = sc.prune(dense, example_inputs("lenet5"), budget={"channels": 0.25}, criterion="l1").model
        rows["dense"].append(evaluate(dense, test)["accuracy"])
        rows["cut"].append(evaluate(cut, test)["accuracy"])
        few = train.subset(LABELLED, seed)
        for name, way in WAYS.items():
            trained = retrained(way, cut, dense, train if way.all_images else few, seed)
            rows[name].append(evaluate(trained, test)["accuracy"])
            print(name, rows[name], file=sys.stderr, flush=True)
    record = {"model": "lenet5", "data": "mnist", "labelled": LABELLED, "steps": STEPS, "seeds": SEEDS, "rows": rows}
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    write_between_markers(PAGE, "retraining", table(rows))


def retrained(way: Way, cut: nn.Module, dense: nn.Module, images: ImageSet, seed: int) -> nn.Module:
    """A copy of the cut network, retrained."""
    model = copy.deepcopy(cut)
    teacher = None if way.alpha is None else Distillation(model, dense, alpha=way.alpha)
    fit(model, images, config=replace(RETRAIN, seed=seed, **way.options), distillation=teacher)
    return model


def table(rows: Mapping[str, list[float]]) -> str:
    """The result as Markdown."""
    lines = (f"| {name} | {_cell(accuracies)} |" for name, accuracies in rows.items())
    return "\n".join(["| retrained with | accuracy |", "|---|---:|", *lines])


def _cell(accuracies: list[float]) -> str:
    return f"{100 * statistics.mean(accuracies):.2f} ± {100 * statistics.stdev(accuracies):.2f}"


if __name__ == "__main__":
    main()
