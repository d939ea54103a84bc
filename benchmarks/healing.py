"""Whole channels removed and the rest healed, without training: accuracy after the cut and after each stage.

    SECATEUR_DATA=... python benchmarks/healing.py [--cases resnet20-2x ...] [--seeds 0 1 2]
    SECATEUR_DATA=... python benchmarks/healing.py --held-out

`prune` with what it does by itself when it is given data: channels chosen by what the healed network loses, widths by
measured cost curves, layers fitted again. 2,048 training images for calibration, drawn by a seed; their labels are not
read, they are shifted and mirrored anew each time they are read, and some are mixed in pairs (`Case.mixed`). ResNet-20
with weights for the JPEG images is judged on all 10,000 JPEG test images, ResNet-56 with published weights on the 932
lossless ones. Nothing was chosen by looking at test images: `--held-out` judges on other training images and writes
nothing. `benchmarks/recovery.py` has other criteria, allocators and recoveries beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from calibration import Augmented, Mixing
from page import write_between_markers
from runs import pruned, read_record, with_run, write_record
from torch import nn

from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs, load_weights

RESULT = Path(__file__).parent / "results" / "healing.json"
PAGE = Path(__file__).parent.parent / "docs" / "choosing-a-criterion.md"
DATA = Path(os.environ.get("SECATEUR_DATA", "."))
IMAGES = 2048


@dataclass(frozen=True)
class Case:
    """A network, how much of its multiply-accumulates stays, and the accuracy it is to have then."""

    model: str
    weights: str
    data: str
    macs: float
    least: float
    mixed: Mixing = "half"


CASES = {
    "resnet20-1.37x": Case("resnet20", "resnet20-cifar10-jpeg", "cifar10", 0.73, 87.6),
    "resnet20-2x": Case("resnet20", "resnet20-cifar10-jpeg", "cifar10", 0.5, 84.0),
    "resnet20-3x": Case("resnet20", "resnet20-cifar10-jpeg", "cifar10", 1 / 3, 75.0),
    "resnet56-2.12x": Case(
        "resnet56", "resnet56-cifar10", f"cifar10:{DATA / 'cifar10-subset.npz'}", 1 / 2.12, 91.5, "none"
    ),
}


def network(case: Case) -> nn.Module:
    model = build_model(case.model)
    load_weights(model, DATA / f"{case.weights}.safetensors")
    return model.eval()


def images(case: Case, *, held_out: bool) -> tuple[ImageSet, ImageSet]:
    """What calibration draws from, and what is judged on."""
    train = open_data(case.data, "train")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(99))
    share = 4 * len(train) // 5
    pool, rest = (
        ImageSet(train.images[part], train.labels[part], train.classes, train.mean, train.std)
        for part in (chosen[:share], chosen[share:])
    )
    return pool, rest.subset(min(1500, len(rest)), 0) if held_out else open_data(case.data, "test")


def run(
    case: Case, model: nn.Module, pool: ImageSet, judge: ImageSet, seed: int, save_to: Path | None = None
) -> dict[str, Any]:
    data = Augmented(pool.subset(IMAGES, seed), mixed=case.mixed)
    options = {"budget": {"macs": case.macs}, "data": data}
    return pruned(model, example_inputs(case.model), judge, seed=seed, save_to=save_to, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="save the networks here")
    parser.add_argument("--held-out", action="store_true", help="judge on held-out training images, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.cases:
        case = CASES[name]
        model, (pool, judge) = network(case), images(case, held_out=options.held_out)
        for seed in options.seeds:
            folder = options.folder and options.folder / name / f"seed-{seed}"
            row = run(case, model, pool, judge, seed, folder)
            print(name, json.dumps(row), flush=True)
            if not options.held_out:
                write(name, case, row, options.threads)


def write(name: str, case: Case, row: dict[str, Any], threads: int) -> None:
    """Add a run to the results; one of the same seed is replaced."""
    held = read_record(RESULT)
    found = with_run(held.get(name, {}), {**row, "threads": threads})
    held[name] = {"least": case.least, "macs": case.macs, "images": IMAGES, "mixed": case.mixed, **found}
    write_record(RESULT, held)
    write_between_markers(PAGE, "healing", table(held))


def table(held: dict[str, Any]) -> str:
    """Accuracy after each stage, mean over seeds, as Markdown."""
    lines = [
        "| network | MACs left | seeds | before | after the cut | after `refit` | after `joint` | CPU minutes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in held.items():
        runs = found["runs"]
        stages = [statistics.mean(run["stages"][stage] for run in runs) for stage in ("cut", "refit", "joint")]
        minutes = statistics.mean(run["cpu_s"] for run in runs) / 60
        lines.append(
            f"| {name.partition('-')[0]} | {found['macs']:.0%} | {len(runs)} | {runs[0]['before']:.2f} | "
            f"{stages[0]:.2f} | {stages[1]:.2f} | {stages[2]:.2f} +- {found['spread']:.2f} | {minutes:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
