"""A search to half of the multiply-accumulates against one cut and as much training: LeNet-5 on digits and on MNIST.

    SECATEUR_DATA=... python benchmarks/search.py [--data digits mnist] [--criteria l2 second-order] [--seeds 0 1 2]

The dense network is trained from each seed. A search goes to half at once, or in steps of a quarter, of which each
winner is trained a little; candidates are judged as they are after healing. `one cut` is `prune` with what it does by
itself when it is given this criterion and the images that the searches calibrate on, healed alike. Then each is trained
until all have had as many steps, at the best of three rates, as judged on images held out of training, with the same
schedule; the accuracy, on test images, is the mean of three such trainings, which differ in the order of the images.
The settings of the searches were chosen on MNIST with other seeds, by training images that were held out.
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
from torch import Tensor, nn

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
MACS = 0.5
AT_ONCE = SearchConfig(recover="joint", block_ratio=MACS, judge_by="loss", short_steps=0, calibration=512)
SEARCHES = {"search at once": AT_ONCE, "search in steps": replace(AT_ONCE, block_ratio=0.25, winner_steps=125)}
TRAININGS = 3


def dense(data: str, train: ImageSet, seed: int) -> nn.Module:
    model = build_model("lenet5", input_shape=SHAPE, seed=seed)
    fit(model, train, config=TrainConfig(epochs=DENSE_EPOCHS[data], batch_size=BATCH, learning_rate=0.05, seed=seed))
    return model.eval()


def opened(model: nn.Module, train: ImageSet, config: SearchConfig, folder: Path, workers: Workers) -> Search:
    inputs = example_inputs("lenet5", input_shape=SHAPE)
    config = replace(config, short_training=TrainConfig(batch_size=BATCH, learning_rate=0.02, schedule="cosine"))
    return Search(model, inputs, parse_budgets({"macs": MACS}), train, folder / "run", config, workers)


def searched(search: Search) -> tuple[nn.Module, dict[str, Any]]:
    """The network; the steps that it was trained for, what was chosen, and how long all that took."""
    start = time.monotonic()
    result = search.run()
    steps = search.config.winner_steps * len(result.rows)
    blocks = [row["block"] for row in result.rows]
    return result.model, {"own_steps": steps, "blocks": blocks, "search_s": time.monotonic() - start}


def cut_once(model: nn.Module, images: list[Tensor], criterion: str, seed: int) -> nn.Module:
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
    made: dict[str, tuple[nn.Module, dict[str, Any]]] = {}
    images: list[Tensor] = []
    for way, config in SEARCHES.items():
        with tempfile.TemporaryDirectory() as folder:
            search = opened(model, train, replace(config, criterion=criterion, seed=seed), Path(folder), workers)
            images = [x for x, _ in search.material.calibration("cpu")]
            made[way] = searched(search)
    workers.close()
    made["one cut"] = cut_once(model, images, criterion, seed), {"own_steps": 0}
    before = 100 * evaluate(model, test)["accuracy"]
    steps = long + max(facts["own_steps"] for _, facts in made.values())
    for way, (network, facts) in made.items():
        accuracies = trained(network, train, test, steps - facts["own_steps"], seed)
        row = {"seed": seed, "before": before, "accuracy": statistics.mean(accuracies), "macs": MACS}
        row |= {"steps": steps, "trainings": accuracies, **facts}
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
