"""ResNet-20 with half of its multiply-accumulates: healed without training, then three epochs, with and without a
teacher.

    SECATEUR_DATA=... python benchmarks/after_healing.py [--seeds 0 1 2] [--folder DIR] [--held-out]

The cut and its healing are those of benchmarks/healing.py, from 2,048 training images whose labels are not read; what
that saved with `--folder` is taken from there. Three epochs of all 50,000 training images follow, with labels alone,
and with the dense network as a teacher. `--held-out` trains on four fifths of the images, judges on others and writes
nothing. Accuracy on the 10,000 JPEG test images. A seed draws the calibration images and the order of training; a run
that was killed goes on in `--folder`. Features are the outputs of the residual blocks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import healing
import torch
from healing import CASES, images, network
from page import write_between_markers
from runs import read_record, with_run, write_record
from torch import nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs
from secateur.train import Distillation, TrainConfig, block_features, evaluate, fit

RESULT = Path(__file__).parent / "results" / "after_healing.json"
PAGE = Path(__file__).parent.parent / "docs" / "training.md"
NAME = "resnet20-2x"
CASE = CASES[NAME]
TRAINING = TrainConfig(epochs=3, batch_size=128, learning_rate=0.03, augment=True, precision="bf16")
WAYS: dict[str, dict[str, float]] = {
    "labels": {},
    "labels, teacher and its features": {"alpha": 0.9, "feature_weight": 100.0},
}
"""What is asked of the teacher."""
MOST_LOST = 1.0
"""Points that may be lost."""


def healed(dense: nn.Module, pool: ImageSet, judge: ImageSet, seed: int, folder: Path) -> nn.Module:
    """As saved in the folder, or made and saved."""
    if not (folder / "run.json").is_file():
        healing.run(CASE, dense, pool, judge, seed, folder)
    return sc.load(folder, build_model(CASE.model)).to(memory_format=torch.channels_last)


def retrained(
    way: str, small: nn.Module, dense: nn.Module, train: ImageSet, config: TrainConfig, folder: Path
) -> nn.Module:
    asked, teacher = WAYS[way], None
    if asked:
        features = block_features(small, dense, example_inputs(CASE.model)) if "feature_weight" in asked else ()
        teacher = Distillation(small, dense, features=features, **asked)
    fit(small, train, config=config, distillation=teacher, checkpoint_dir=folder / way.replace(" ", "-"))
    if teacher is not None:
        teacher.finish()
    return small.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--folder", type=Path, default=Path("after-healing"))
    parser.add_argument("--rate", type=float, default=TRAINING.learning_rate)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--held-out", action="store_true", help="judge on held-out training images, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dense = network(CASE).to(memory_format=torch.channels_last)  # which is faster
    pool, judge = images(CASE, held_out=options.held_out)
    train = pool if options.held_out else open_data(CASE.data, "train")
    for seed in options.seeds:
        folder = options.folder / NAME / f"seed-{seed}"
        for way in options.ways:
            small = healed(dense, pool, judge, seed, folder)
            start, before = time.process_time(), 100 * evaluate(small, judge)["accuracy"]
            config = replace(TRAINING, seed=seed, learning_rate=options.rate)
            state = folder.with_name(f"{folder.name}-training")
            after = 100 * evaluate(retrained(way, small, dense, train, config, state), judge)["accuracy"]
            row = {"seed": seed, "healed": before, "accuracy": after, "cpu_s": time.process_time() - start}
            print(way, json.dumps(row), flush=True)
            if not options.held_out:
                write(way, row, 100 * evaluate(dense, judge)["accuracy"])


def write(way: str, row: dict[str, Any], dense: float) -> None:
    """Add a run to the results; one of the same seed is replaced."""
    held = read_record(RESULT, {"dense": dense, "most_lost": MOST_LOST, "ways": {}})
    held["ways"][way] = with_run(held["ways"].get(way, {}), row)
    write_record(RESULT, held)
    write_between_markers(PAGE, "after-healing", table(held))


def table(held: dict[str, Any]) -> str:
    """Accuracy healed and retrained, mean over seeds, as Markdown."""
    lines = [
        "| three epochs with | seeds | dense | healed | retrained | CPU minutes |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for way, found in held["ways"].items():
        runs = found["runs"]
        minutes = statistics.mean(run["cpu_s"] for run in runs) / 60
        lines.append(
            f"| {way} | {len(runs)} | {held['dense']:.2f} | {statistics.mean(run['healed'] for run in runs):.2f} | "
            f"{found['mean']:.2f} +- {found['spread']:.2f} | {minutes:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
