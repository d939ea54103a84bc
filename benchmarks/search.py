"""A search to half of the multiply-accumulates against one cut and as much training: LeNet-5 on digits and on MNIST.

    SECATEUR_DATA=... python benchmarks/search.py [--data digits mnist] [--criteria l2 second-order] [--seeds 0 1 2]

The dense network is trained from each seed. The search goes to half in iterations, its result is trained for some
epochs; candidates are judged as they are after healing, and only the winner of an iteration is trained, for
`winner_steps`. `one cut` is `prune` with what it does by itself when it is given data and this criterion, healed alike,
then trained for as many steps as the search in all. Each trains at the best of three rates, as judged on images held
out of training, with the same schedule; the accuracy, on test images, is the mean of three such trainings, which differ
in the order of the images. The settings of the search were chosen on MNIST with other seeds, by training images that
were held out.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from page import write_between_markers
from runs import add_run
from torch import nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs
from secateur.search.netadapt import Search, SearchConfig
from secateur.search.workers import Workers, open_workers
from secateur.spec import parse_budgets
from secateur.train import TrainConfig, evaluate, fit

RESULT = Path(__file__).parent / "results" / "search.json"
PAGE = Path(__file__).parent.parent / "docs" / "search.md"
SHAPE, BATCH = (1, 28, 28), 64
RATES = (0.001, 0.005, 0.02)
DENSE_EPOCHS = {"digits": 30, "mnist": 3}
LONG_EPOCHS = {"digits": 10, "mnist": 1}
CRITERIA = ("l2", "second-order")
CONFIG = SearchConfig(
    recover="joint", block_ratio=0.25, judge_by="loss", short_steps=0, winner_steps=125, calibration=512
)
MACS = 0.5
TRAININGS = 3


def dense(data: str, train: ImageSet, seed: int) -> nn.Module:
    model = build_model("lenet5", input_shape=SHAPE, seed=seed)
    fit(model, train, config=TrainConfig(epochs=DENSE_EPOCHS[data], batch_size=BATCH, learning_rate=0.05, seed=seed))
    return model.eval()


def searched(model: nn.Module, train: ImageSet, criterion: str, seed: int, workers: Workers) -> tuple[nn.Module, int]:
    """The network, and the steps that it was trained for in the search."""
    short = TrainConfig(batch_size=BATCH, learning_rate=0.02, schedule="cosine")
    config = replace(CONFIG, criterion=criterion, short_training=short, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        inputs = example_inputs("lenet5", input_shape=SHAPE)
        run = Path(folder) / "run"
        result = Search(model, inputs, parse_budgets({"macs": MACS}), train, run, config, workers).run()
    return result.model, CONFIG.winner_steps * len(result.rows)


def cut_once(model: nn.Module, train: ImageSet, criterion: str, seed: int) -> nn.Module:
    images = [x for x, _ in train.subset(512, seed).batches(128)]
    budget = {"macs": MACS}
    return sc.prune(
        model, images[0][:2], budget=budget, data=images, criterion=criterion, recover="joint", seed=seed
    ).model


def trained(model: nn.Module, train: ImageSet, test: ImageSet, steps: int, seed: int) -> list[float]:
    """Accuracies after training on all images at the rate that is best on a tenth of them."""
    rest, held = train.split(len(train) // 10, seed)
    base = TrainConfig(epochs=steps, max_steps=steps, batch_size=BATCH, schedule="one-cycle")

    def after(rate: float, images: ImageSet, judge: ImageSet, seed: int) -> float:
        network = copy.deepcopy(model)
        fit(network, images, config=replace(base, learning_rate=rate, seed=seed))
        return 100 * evaluate(network.eval(), judge)["accuracy"]

    best = max(RATES, key=lambda rate: after(rate, rest, held, seed))
    return [after(best, train, test, TRAININGS * seed + number) for number in range(TRAININGS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits", "mnist"], choices=list(DENSE_EPOCHS))
    parser.add_argument("--criteria", nargs="+", default=list(CRITERIA), choices=CRITERIA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", default="cpu:4")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for data in options.data:
        train, test = (open_data(data, split, input_shape=SHAPE) for split in ("train", "test"))
        long = LONG_EPOCHS[data] * (len(train) // BATCH)
        for seed in options.seeds:
            model = dense(data, train, seed)
            for criterion in options.criteria:
                compare(model, data, train, test, criterion, seed, long, options.workers)


def compare(
    model: nn.Module, data: str, train: ImageSet, test: ImageSet, criterion: str, seed: int, long: int, who: str
) -> None:
    """One network, criterion and seed by each way; runs of the same are replaced in the results."""
    workers = open_workers(who)
    start = time.monotonic()
    found, own = searched(model, train, criterion, seed, workers)
    wall = time.monotonic() - start
    workers.close()
    once = cut_once(model, train, criterion, seed)
    before = 100 * evaluate(model, test)["accuracy"]
    for way, network, left in (("search", found, long), ("one cut", once, own + long)):
        accuracies = trained(network, train, test, left, seed)
        row = {"seed": seed, "before": before, "accuracy": statistics.mean(accuracies), "macs": MACS}
        row |= {"steps": own + long, "trainings": accuracies, "search_s": wall}
        print(data, criterion, way, json.dumps(row), flush=True)
        write_between_markers(PAGE, "search", table(add_run(RESULT, [data, criterion, way], row)))


def table(held: dict[str, Any]) -> str:
    """Accuracies, mean over seeds, as Markdown."""
    lines = ["| data | criterion | way | seeds | training steps | before | after |", f"|---|---|---|{'---:|' * 4}"]
    for data, criteria in held.items():
        for criterion, ways in criteria.items():
            for way, found in ways.items():
                runs = found["runs"]
                before, steps = (statistics.mean(run[key] for run in runs) for key in ("before", "steps"))
                after = f"{found['mean']:.2f} +- {found['spread']:.2f}"
                lines.append(f"| {data} | {criterion} | {way} | {len(runs)} | {steps:.0f} | {before:.2f} | {after} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
