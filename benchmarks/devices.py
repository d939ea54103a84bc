"""ResNet-20 over four devices that need less of each other: without training, and after short retraining.

    SECATEUR_DATA=... python benchmarks/devices.py [--ways "closed form" ...] [--seeds 0 1 2] [--epochs 24] [--held-out]

Four devices alike, each with a share of the filters of every layer; bytes of all links for one image. Without training:
`prune_crossings` to 40 % of the bytes, from 6,144 training images whose labels are not read. With as many epochs of
training each, with the dense network's answers as a teacher: the crossings of the smallest norm go, down to 20 % of the
bytes, and zeros stay; ADMM onto the same groups; ADMM onto kernels, the projection of the paper, and plain magnitude
pruning, both with as many zeros as the first, which send what their zeros leave to be sent; and the kernels of the
smallest norm go until no more bytes cross than with the first. Accuracy on the 10,000 JPEG test images; `--held-out`
trains on four fifths of the training images, judges on others, and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from calibration import Augmented
from healing import CASES, images, network
from page import write_between_markers
from runs import add_run, read_record
from torch import Tensor, nn

from secateur.data import ImageSet, open_data
from secateur.models import example_inputs
from secateur.partition import CrossingTarget, Split, partition, prune_crossings
from secateur.partition.timing import by_rate, estimate
from secateur.sparse import apply_masks_, sparsity
from secateur.structure import clone
from secateur.train import Distillation, TrainConfig, evaluate, fit
from secateur.train.methods import ADMM, Target, Weights

RESULT = Path(__file__).parent / "results" / "devices.json"
PAGE = Path(__file__).parent.parent / "docs" / "devices.md"
CASE = CASES["resnet20-2x"]
DEVICES, IMAGES = 4, 6144
SHARE = {"without training": 0.4, "retrained": 0.2}
RATE, TEACHER = 0.1, 0.9
"""The largest learning rate, and the weight of the teacher's answers."""
PULLED_SHARE = 0.25
"""Of the epochs, in which ADMM pulls; in the rest zeros are fixed."""
WAYS = (
    "closed form",
    "crossings, retrained",
    "admm, crossings",
    "admm, kernels",
    "magnitude, retrained",
    "kernels, as few bytes",
)


@dataclass(frozen=True)
class Setting:
    """What all ways share."""

    dense: nn.Module
    split: Split
    calibration: ImageSet
    train: ImageSet
    judge: ImageSet
    epochs: int

    def accuracy(self, model: nn.Module) -> float:
        return 100 * evaluate(model, self.judge)["accuracy"]

    def row(self, model: nn.Module) -> dict[str, Any]:
        structure = self.split.arrangement, self.split.needs(model), self.split.topology
        crossing, dense = (self.split.traffic(found).total for found in (model, self.dense))
        return {
            "accuracy": self.accuracy(model),
            "bytes": crossing,
            "fewer": dense / crossing,
            "sparsity": sparsity(model),
            "milliseconds": {f"{rate:g}": 1e3 * seconds for rate, seconds in by_rate(*structure).items()},
            "milliseconds_alone": 1e3 * estimate(*structure, samples=1).alone,
        }


def closed_form(setting: Setting, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    data = Augmented(setting.calibration, mixed="half")
    found = prune_crossings(
        setting.dense, setting.split, SHARE["without training"], data, evaluate=setting.accuracy, seed=seed
    )
    return found.model, {"stages": dict(found.stages)}


def retrained(
    setting: Setting, model: nn.Module, masks: Mapping[str, Tensor], epochs: int, seed: int, method: ADMM | None = None
) -> nn.Module:
    """Zeros stay where the masks have them."""
    teacher = Distillation(model, setting.dense, alpha=TEACHER)
    config = TrainConfig(
        epochs=epochs, learning_rate=RATE, augment=True, seed=seed, precision="bf16", channels_last=True
    )
    methods = [] if method is None else [method]
    fit(model, setting.train, config=config, masks=masks, methods=methods, distillation=teacher)
    teacher.finish()
    return model.eval()


def cut_(model: nn.Module, target: Target) -> Mapping[str, Tensor]:
    """Zeros where the target says, and where they are."""
    masks = target.masks({name: weight.detach() for name, weight in target.weights.items()})
    apply_masks_(model, masks)
    return masks


def at_once(setting: Setting, target: Callable[[nn.Module], Target], seed: int) -> nn.Module:
    model = clone(setting.dense)
    return retrained(setting, model, cut_(model, target(model)), setting.epochs, seed)


def fewest_kernels(setting: Setting, model: nn.Module, most: int) -> Weights:
    """As few kernels to zero, an equal share of every layer, as leave no more bytes than `most` to be sent."""

    def enough(thousandths: int) -> bool:
        trial = clone(model)
        cut_(trial, kernels(trial, thousandths / 1000))
        return setting.split.traffic(trial).total <= most

    return kernels(model, bisect_left(range(1000), True, key=enough) / 1000)


def kernels(model: nn.Module, sparsity: float) -> Weights:
    return Weights(model, sparsity=sparsity, granularity="kernel", allocator="uniform")


def by_admm(setting: Setting, target: Callable[[nn.Module], Target], seed: int) -> nn.Module:
    """Some epochs towards the projection, the rest with its zeros."""
    model = clone(setting.dense)
    aim = target(model)
    pulled = max(1, round(PULLED_SHARE * setting.epochs))
    steps = pulled * (len(setting.train) // 128)
    retrained(setting, model, {}, pulled, seed, ADMM(aim, rho=1e-2, growth=1.3, every=max(1, steps // 20)))
    return retrained(setting, model, cut_(model, aim), max(1, setting.epochs - pulled), seed)


def run(way: str, setting: Setting, seed: int) -> dict[str, Any]:
    start = time.process_time()

    def crossings(model: nn.Module) -> Target:
        return CrossingTarget(model, setting.split, SHARE["retrained"])

    extra: dict[str, Any] = {}
    if way == "dense":
        model = setting.dense
    elif way == "closed form":
        model, extra = closed_form(setting, seed)
    elif way == "crossings, retrained":
        model = at_once(setting, crossings, seed)
    elif way == "admm, crossings":
        model = by_admm(setting, crossings, seed)
    else:
        cut = clone(setting.dense)
        cut_(cut, crossings(cut))
        zeros, most = sparsity(cut), setting.split.traffic(cut).total
        if way == "admm, kernels":
            model = by_admm(setting, lambda net: kernels(net, zeros), seed)
        elif way == "kernels, as few bytes":
            model = at_once(setting, lambda net: fewest_kernels(setting, net, most), seed)
        else:
            model = at_once(setting, lambda net: Weights(net, sparsity=zeros), seed)
    return {"seed": seed, **setting.row(model), **extra, "cpu_s": time.process_time() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--held-out", action="store_true", help="judge on held-out training images, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dense = network(CASE).to(memory_format=torch.channels_last)  # which is faster
    pool, judge = images(CASE, held_out=options.held_out)
    train = pool if options.held_out else open_data(CASE.data, "train")
    for seed in options.seeds:
        calibration = pool.subset(IMAGES, seed)
        data = [x for x, _ in calibration.batches(256)]
        split = partition(dense, example_inputs(CASE.model), DEVICES, strategy="auto", data=data, seed=seed)
        setting = Setting(dense, split, calibration, train, judge, options.epochs)
        for way in ("dense", *options.ways):
            row = {**run(way, setting, seed), "epochs": options.epochs, "threads": options.threads}
            print(way, json.dumps(row), flush=True)
            if not options.held_out:
                add_run(RESULT, [way], row)
                found = read_record(RESULT)
                held = {one: found[one] for one in ("dense", *WAYS) if one in found}
                write_between_markers(PAGE, "devices", table(held))
                write_between_markers(PAGE, "rates", curve(held))


def table(held: Mapping[str, Any]) -> str:
    """Accuracy and bytes, mean over seeds, as Markdown."""
    lines = [
        "| way | seeds | zeros | fewer bytes | accuracy | CPU minutes |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for way, found in held.items():
        runs = found["runs"]
        zeros, fewer, minutes = (statistics.mean(one[key] for one in runs) for key in ("sparsity", "fewer", "cpu_s"))
        lines.append(
            f"| {way} | {len(runs)} | {zeros:.0%} | {fewer:.1f}x | {found['mean']:.2f} +- {found['spread']:.2f} | "
            f"{minutes / 60:.0f} |"
        )
    return "\n".join(lines)


def curve(held: Mapping[str, Any]) -> str:
    """Milliseconds an image, mean over seeds, by the rate of the links, as Markdown."""
    dense = held["dense"]["runs"][0]
    lines = [
        f"| Mbit/s | dense, one device | {' | '.join(held)} |",
        f"|---:|---:|{'---:|' * len(held)}",
    ]
    for rate in dense["milliseconds"]:
        spread = [statistics.mean(run["milliseconds"][rate] for run in found["runs"]) for found in held.values()]
        lines.append(f"| {rate} | {' | '.join(f'{found:,.0f}' for found in (dense['milliseconds_alone'], *spread))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
