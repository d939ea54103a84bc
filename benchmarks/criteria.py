"""Accuracy right after cutting, for every criterion at two budgets: ResNet-20 on CIFAR-10 and LeNet-5 on MNIST.

    SECATEUR_DATA=... python benchmarks/criteria.py

No healing, no retraining. Uniform allocation; 1,024 training images for criteria that look at data; three seeds, which
draw the calibration images and the random scores (criteria without either give the same each time). ResNet-20 has the
published weights that were fine-tuned on the JPEG images and is judged on 2,000 of its 10,000 test images, the same for
all; LeNet-5 is trained here for one epoch and judged on all 10,000.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs, load_weights
from secateur.train import TrainConfig, evaluate, fit

RESULT = Path(__file__).parent / "results" / "criteria.json"
BUDGETS = (0.8, 0.6)
SEEDS = (0, 1, 2)


def resnet20(folder: Path) -> tuple[nn.Module, ImageSet, ImageSet]:
    model = build_model("resnet20")
    load_weights(model, folder / "resnet20-cifar10-jpeg.safetensors")
    return model, open_data("cifar10", "train"), open_data("cifar10", "test", limit=2000)


def lenet5() -> tuple[nn.Module, ImageSet, ImageSet]:
    train, test = (open_data("mnist", split, input_shape=(1, 32, 32)) for split in ("train", "test"))
    model = build_model("lenet5")
    fit(model, train, config=TrainConfig(epochs=1, batch_size=64, learning_rate=0.05))
    return model, train, test


def measure(name: str, model: nn.Module, train: ImageSet, test: ImageSet) -> dict[str, Any]:
    model.eval()
    structure = sc.trace(model, example_inputs(name))
    rows: dict[str, Any] = {}
    for criterion, _ in sc.CRITERIA.describe():
        found: dict[str, list[float]] = {f"{budget:g}": [] for budget in BUDGETS}
        seconds: list[float] = []
        for seed in SEEDS:
            images = train.subset(1024, seed).batches(128)
            start = time.process_time()
            try:
                scores = sc.score(model, structure, criterion=criterion, data=images, seed=seed)
            except sc.SecateurError as error:
                print(f"{name} {criterion}: {error}", file=sys.stderr)
                break
            seconds.append(time.process_time() - start)
            for budget in BUDGETS:
                small = sc.shrink(model, sc.allocate(structure, scores, {"macs": budget}))
                found[f"{budget:g}"].append(evaluate(small, test)["accuracy"])
        if seconds:
            rows[criterion] = {"accuracy": found, "cpu_s": statistics.mean(seconds)}
            print(name, criterion, rows[criterion], flush=True)
    return {"dense": evaluate(model, test)["accuracy"], "criteria": rows}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = Path(os.environ["SECATEUR_DATA"])
    result = {
        "budgets": {"macs": BUDGETS},
        "seeds": SEEDS,
        "lenet5": measure("lenet5", *lenet5()),
        "resnet20": measure("resnet20", *resnet20(folder)),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """The result as Markdown, best on ResNet-20 first."""
    lines = [
        "| criterion | resnet20, 80 % | resnet20, 60 % | lenet5, 80 % | lenet5, 60 % |",
        "|---|---:|---:|---:|---:|",
    ]
    names = sorted(result["resnet20"]["criteria"], key=lambda name: -_mean(result, "resnet20", name, "0.8"))
    for name in names:
        cells = [_cell(result, net, name, budget) for net in ("resnet20", "lenet5") for budget in ("0.8", "0.6")]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(result: dict[str, Any], net: str, name: str, budget: str) -> float:
    return statistics.mean(result[net]["criteria"][name]["accuracy"][budget])


def _cell(result: dict[str, Any], net: str, name: str, budget: str) -> str:
    if name not in result[net]["criteria"]:
        return "-"
    values = [100 * value for value in result[net]["criteria"][name]["accuracy"][budget]]
    return f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}"


if __name__ == "__main__":
    main()
