"""Accuracy right after whole residual blocks have left, for every criterion that scores them: ResNet-20 on CIFAR-10.

    SECATEUR_DATA=... python benchmarks/depth.py

No healing, no retraining. Weights, images and seeds are those of `criteria.py`; one, two and four of the seven blocks
leave.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path

import torch
from criteria import SEEDS, resnet20

import secateur as sc
from secateur.models import example_inputs
from secateur.structure.selectors import restrict
from secateur.train import evaluate

RESULT = Path(__file__).parent / "results" / "depth.json"
GONE = (1, 2, 4)
BLOCKS = 7


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, train, test = resnet20(Path(os.environ["SECATEUR_DATA"]))
    model.eval()
    structure = restrict(sc.trace(model, example_inputs("resnet20")), model, granularity="blocks")
    rows: dict[str, dict[str, list[float]]] = {}
    for criterion, _ in sc.CRITERIA.describe():
        found: dict[str, list[float]] = {str(gone): [] for gone in GONE}
        for seed in SEEDS:
            try:
                images = train.subset(1024, seed).batches(128)
                scores = sc.score(model, structure, criterion=criterion, data=images, seed=seed)
            except sc.SecateurError:  # it scores no blocks
                break
            for gone in GONE:
                plan = sc.allocate(structure, scores, {"channel_count": BLOCKS - gone})
                found[str(gone)].append(evaluate(sc.shrink(model, plan), test)["accuracy"])
        else:
            rows[criterion] = found
            print(criterion, found, file=sys.stderr, flush=True)
    result = {"dense": evaluate(model, test)["accuracy"], "seeds": SEEDS, "blocks_gone": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))


def table(rows: dict[str, dict[str, list[float]]]) -> str:
    """The result as Markdown, best first."""
    lines = [f"| criterion | {' | '.join(f'{gone} gone' for gone in GONE)} |", "|---" + "|---:" * len(GONE) + "|"]
    best = sorted(rows, key=lambda name: -sum(map(statistics.mean, rows[name].values())))
    return "\n".join([*lines, *(f"| `{name}` | {' | '.join(map(_cell, rows[name].values()))} |" for name in best)])


def _cell(accuracies: list[float]) -> str:
    return f"{100 * statistics.mean(accuracies):.1f} ± {100 * statistics.pstdev(accuracies):.1f}"


if __name__ == "__main__":
    main()
