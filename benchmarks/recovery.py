"""Criteria, allocators and recoveries beside each other: ResNet-20 with half and with two thirds of its work left.

    SECATEUR_DATA=... python benchmarks/recovery.py [--budgets 0.67 0.5] [--criteria ...] [--images 256]

Channels scored by each criterion, spread by each allocator, cut, and healed up to each stage; random is the control.
256 training images for calibration, whose labels are not read except by `taylor`, shifted and mirrored anew each time
they are read. Accuracy on 2,500 of the JPEG test images, which nothing was chosen by. One command, one table, one seed
(`--seed`); benchmarks/healing.py has more images and seeds for the way that is the default.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from calibration import Augmented
from healing import CASES, images, network
from page import write_between_markers
from runs import write_record
from torch import nn

import secateur as sc
from secateur.data import ImageSet
from secateur.models import example_inputs
from secateur.recover import SECOND_ORDER, heal_, healed_scores
from secateur.score.gradients import batches
from secateur.structure.capture import normalise_inputs
from secateur.train import evaluate

RESULT = Path(__file__).parent / "results" / "recovery.json"
PAGE = Path(__file__).parent.parent / "docs" / "choosing-a-criterion.md"
CASE = CASES["resnet20-2x"]
CRITERIA = ("random", "l2", SECOND_ORDER)
ALLOCATORS = ("uniform", "global", "knapsack")
RECOVERIES = (("recalibrate",), ("fold",), ("refit", "joint"))
JUDGED = 2500
STAGES = ("none", "recalibrate", "fold", "refit", "joint")


class Calibration:
    """Batches in the form that healing takes, read anew each time."""

    def __init__(self, images: ImageSet) -> None:
        self.data = Augmented(images)

    def __iter__(self) -> Any:
        return batches(self.data)


def scored(model: nn.Module, structure: sc.Structure, criterion: str, images: ImageSet, seed: int) -> sc.Scores:
    if criterion == SECOND_ORDER:
        data = Calibration(images)
        return healed_scores(model, structure, lambda: iter(data), seed=seed)
    labelled = images.batches(256)
    return sc.score(model, structure, criterion=criterion, data=labelled if criterion == "taylor" else None, seed=seed)


def measured(model: nn.Module, plan: sc.Plan, images: ImageSet, judge: ImageSet, seed: int) -> dict[str, float]:
    """Accuracy in percent after the cut and after each stage."""
    inputs = normalise_inputs(example_inputs(CASE.model))
    found = {"none": 100 * evaluate(sc.shrink(model, plan), judge)["accuracy"]}
    for stages in RECOVERIES:
        small, data = sc.shrink(model, plan), Calibration(images)
        for stage in heal_(small, model, plan, inputs, data, stages, torch.Generator().manual_seed(seed)):
            found[stage] = 100 * evaluate(small, judge)["accuracy"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.67, 0.5])
    parser.add_argument("--criteria", nargs="+", default=CRITERIA)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, (pool, judge) = network(CASE), images(CASE, held_out=False)
    drawn, judge = pool.subset(options.images, options.seed), judge.subset(JUDGED, 0)
    structure = sc.trace(model, *example_inputs(CASE.model))
    rows: list[dict[str, Any]] = []
    for criterion in options.criteria:
        scores = scored(model, structure, criterion, drawn, options.seed)
        chosen = {axis.name for axis in structure.prunable}
        scores = replace(scores, values={name: found for name, found in scores.values.items() if name in chosen})
        for allocator in ALLOCATORS:
            for budget in options.budgets:
                start = time.process_time()
                plan = sc.allocate(structure, scores, {"macs": budget}, allocator=allocator)
                row = {"criterion": criterion, "allocator": allocator, "macs": budget}
                rows.append({**row, **measured(model, plan, drawn, judge, options.seed)})
                print({**rows[-1], "cpu_s": time.process_time() - start}, flush=True)
    before = 100 * evaluate(model, judge)["accuracy"]
    record = {"before": before, "judged": JUDGED, "images": options.images, "seed": options.seed, "rows": rows}
    write_record(RESULT, record)
    write_between_markers(PAGE, "recovery", table(rows))


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Accuracy after each stage, as Markdown."""
    lines = [
        f"| MACs left | criterion | allocator | {' | '.join(f'`{stage}`' for stage in STAGES)} |",
        f"|---:|---|---|{'---:|' * len(STAGES)}",
    ]
    for row in sorted(rows, key=lambda row: -row["macs"]):
        shown = " | ".join(f"{row[stage]:.1f}" for stage in STAGES)
        lines.append(f"| {row['macs']:.0%} | {row['criterion']} | {row['allocator']} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
