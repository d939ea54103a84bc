"""A vision transformer with half of its multiply-accumulates, without training after the cut.

    SECATEUR_DATA=... python benchmarks/vit.py [--seeds 0 1 2] [--held-out]

A small ViT of timm (patches of 7x7, 64 wide, 6 blocks of 4 heads) is trained here on MNIST, once; `--held-out` trains
it on 50,000 of the images, judges on the other 10,000 and writes nothing. Then `prune` with what it does by itself when
it is given data: 2,048 training images whose labels are not read, drawn by a seed; beside it magnitude and random,
uniformly, healed in the same way, and magnitude that is not healed. Accuracy on the 10,000 test images.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import torch
import tvshim  # noqa: F401  (before anything imports torchvision)
from page import write_between_markers
from runs import add_run, pruned
from torch import nn

from secateur.data import ImageSet, open_data
from secateur.train import TrainConfig, fit

RESULT = Path(__file__).parent / "results" / "vit.json"
PAGE = Path(__file__).parent.parent / "docs" / "choosing-a-criterion.md"
IMAGES, MACS, HELD_OUT = 2048, 0.5, 10_000
TRAINING = TrainConfig(epochs=8, learning_rate=2e-3, optimizer="adamw", weight_decay=0.05, augment=False)
WAYS: dict[str, dict[str, Any]] = {
    "auto": {},
    "magnitude, healed": {"criterion": "l2", "allocator": "uniform"},
    "random, healed": {"criterion": "random", "allocator": "uniform"},
    "magnitude": {"criterion": "l2", "allocator": "uniform", "recover": "none"},
}


def network() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    shape: dict[str, Any] = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    return VisionTransformer(**shape, embed_dim=64, depth=6, num_heads=4)


def images(*, held_out: bool) -> tuple[ImageSet, ImageSet]:
    """To train and calibrate on, and to judge on."""
    train = open_data("mnist", "train")
    if not held_out:
        return train, open_data("mnist", "test")
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(99))
    rest, held = (
        ImageSet(train.images[part], train.labels[part], train.classes, train.mean, train.std)
        for part in (chosen[HELD_OUT:], chosen[:HELD_OUT])
    )
    return rest, held


def run(way: str, model: nn.Module, pool: ImageSet, judge: ImageSet, seed: int) -> dict[str, Any]:
    calibration = [x for x, _ in pool.subset(IMAGES, seed).batches(256)]
    return pruned(model, calibration[0][:2], judge, seed=seed, budget={"macs": MACS}, data=calibration, **WAYS[way])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--held-out", action="store_true", help="judge on held-out training images, write nothing")
    parser.add_argument("--folder", type=Path, default=None, help="keep the state of training here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pool, judge = images(held_out=options.held_out)
    model = network()
    fit(model, pool, config=TRAINING, checkpoint_dir=options.folder)
    model.eval()
    for way in options.ways:
        for seed in options.seeds:
            row = {**run(way, model, pool, judge, seed), "threads": options.threads}
            print(way, json.dumps(row), flush=True)
            if not options.held_out:
                write(way, row)


def write(way: str, row: dict[str, Any]) -> None:
    """Add a run to the results; one of the same seed is replaced."""
    write_between_markers(PAGE, "vit", table(add_run(RESULT, [way], row)))


def table(held: dict[str, Any]) -> str:
    """Accuracy before and after, mean over seeds, as Markdown."""
    lines = ["| way | seeds | before | after the cut | after healing | CPU minutes |", "|---|---:|---:|---:|---:|---:|"]
    for way, found in held.items():
        runs = found["runs"]
        cut = statistics.mean(run["stages"].get("cut", run["accuracy"]) for run in runs)
        healed = "-" if way == "magnitude" else f"{found['mean']:.2f} +- {found['spread']:.2f}"
        minutes = statistics.mean(run["cpu_s"] for run in runs) / 60
        lines.append(f"| {way} | {len(runs)} | {runs[0]['before']:.2f} | {cut:.2f} | {healed} | {minutes:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
