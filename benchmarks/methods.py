"""What pruning while training wins: each schedule and regulariser for the same number of steps, then the same cut.

    SECATEUR_DATA=... python benchmarks/methods.py [--seeds 0 1 2] [--only TEXT] [--held-out]

Every row trains a small network on MNIST for the same few steps, all from the same first weights and learning rates,
and is then pruned to one size by `prune`, or by what the method itself chose, without any training after the cut. The
accuracy on the 10,000 test images is taken before and after it. Settings were chosen with `--held-out`, which trains on
50,000 of the training images, judges on the other 10,000 and writes nothing. A seed sets first weights and the order of
the images. Runs go to benchmarks/results/methods.json and to docs/training-methods.md; those that are there are not
repeated (delete the file to start again).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from page import write_between_markers
from torch import Tensor, nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.models import build_model
from secateur.sparse import as_tensors
from secateur.train import TrainConfig, evaluate, fit
from secateur.train.methods import (
    ADMM,
    Channels,
    GroupLasso,
    GrowingPenalty,
    HardConcreteGates,
    LayerDrop,
    Slimming,
    SparsitySchedule,
    UnitDropout,
    WeightDropout,
    Weights,
    WeightsByMovement,
    by_rank,
    geometric,
    linear,
    lottery_tickets,
    lowest,
    one_shot,
)

ROOT = Path(__file__).parent
RESULT = ROOT / "results" / "methods.json"
PAGE = ROOT.parent / "docs" / "training-methods.md"
STEPS = 900
RISE = round(0.75 * STEPS)
"""Steps in which a schedule reaches the final share."""
SPARSITY, MACS = 0.95, 0.5
CONFIG = TrainConfig(epochs=2, batch_size=64, learning_rate=0.05, max_steps=STEPS)
GROWTH: dict[str, Any] = {"delta": 0.1, "every": 5, "ceiling": 3.0, "start": STEPS // 2}
HELD_OUT = 10_000
INPUTS = torch.zeros(1, 1, 28, 28)


def convolutions() -> nn.Module:
    """Three convolutions of 16, 32 and 64 channels with BatchNorms, and a linear layer on the mean."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 2), (16, 32, 2), (32, 64, 1)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Residual(nn.Module):
    """`x + f(x)` with f a LayerNorm and one hidden layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(F.relu(self.inner(self.norm(x))))


def stack() -> nn.Module:
    """Eight residual blocks."""
    blocks = nn.Sequential(*(Residual(64) for _ in range(8)))
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), blocks, nn.Linear(64, 10))


@dataclass(frozen=True)
class Run:
    """One training: data, and what counts."""

    train: ImageSet
    judge: Callable[[nn.Module], float]
    seed: int

    @property
    def config(self) -> TrainConfig:
        return replace(CONFIG, seed=self.seed)

    def fresh(self, build: Callable[[], nn.Module]) -> nn.Module:
        torch.manual_seed(self.seed)
        return build()

    def fit(self, model: nn.Module, *methods: Any, **options: Any) -> None:
        fit(model, self.train, config=self.config, methods=methods, **options)
        for method in methods:
            if hasattr(method, "finish"):
                method.finish()


Figures = tuple[float, float]
"""Accuracy before and after the cut."""
Make = Callable[[nn.Module], Any]
"""From the model to a method for it, or several."""


# Single weights: lenet300, 95 % zeros under one threshold.


def lenet() -> nn.Module:
    return build_model("lenet300")


def without_weights(model: nn.Module, **options: Any) -> sc.PruneResult:
    asked = {"granularity": "element", "budget": {"sparsity": SPARSITY}, "allocator": "global"} | options
    return sc.prune(model, INPUTS, **asked)


def weights(make: Make | None) -> Callable[[Run], Figures]:
    def run(given: Run) -> Figures:
        model = given.fresh(lenet)
        given.fit(model, *([] if make is None else [make(model)]))
        return given.judge(model), given.judge(without_weights(model).model)

    return run


def schedule(**options: Any) -> Callable[[Run], Figures]:
    asked = {"steps": RISE, "memory": 0.0} | options
    return weights(lambda model: SparsitySchedule(Weights(model, sparsity=SPARSITY), **asked))


def at_initialisation(criterion: str) -> Callable[[Run], Figures]:
    def run(given: Run) -> Figures:
        data = list(given.train.subset(1024).batches(128))
        result = without_weights(given.fresh(lenet), criterion=criterion, data=data, seed=given.seed)
        given.fit(result.model, masks=as_tensors(result.masks))
        return (given.judge(result.model),) * 2

    return run


def lottery(rewind: Any) -> Callable[[Run], Figures]:
    """Four trainings with a quarter of the steps each."""

    def run(given: Run) -> Figures:
        model, rounds = given.fresh(lenet), 3
        config = replace(given.config, max_steps=STEPS // (rounds + 1))
        share = 1 - (1 - SPARSITY) ** (1 / rounds)
        for _ in lottery_tickets(
            model, given.train, config=config, rounds=rounds, share=share, rewind=rewind, rewind_to=20
        ):
            pass
        return given.judge(model), given.judge(without_weights(model).model)

    return run


def one_of_eight(make: Make | None) -> Callable[[Run], Figures]:
    def run(given: Run) -> Figures:
        model = given.fresh(lenet)
        given.fit(model, *([] if make is None else [make(Weights(model, granularity="1:8"))]))
        return given.judge(model), given.judge(without_weights(model, granularity="1:8", budget=None).model)

    return run


# Channels: three convolutions with BatchNorms, half of the multiply-accumulates.


def channels(make: Callable[[nn.Module, sc.Structure], Any] | None, criterion: Any = "l2") -> Callable[[Run], Figures]:
    def run(given: Run) -> Figures:
        model = given.fresh(convolutions)
        method = None if make is None else make(model, sc.trace(model, INPUTS))
        given.fit(model, *([] if method is None else [method]))
        own = method if criterion == "own" else criterion
        result = sc.prune(model, INPUTS, budget={"macs": MACS}, criterion=own, allocator="global")
        return given.judge(model), given.judge(result.model)

    return run


def targeted(make: Callable[[Channels], Any], *, whole: bool = False) -> Callable[[Run], Figures]:
    """Methods that say themselves what goes."""

    def run(given: Run) -> Figures:
        model = given.fresh(convolutions)
        target = Channels(model, sc.trace(model, INPUTS), budget={"macs": MACS}, allocator="global", whole=whole)
        given.fit(model, make(target))
        return given.judge(model), given.judge(sc.shrink(model, target.plan()))

    return run


def blocks(rate: float) -> Callable[[Run], Figures]:
    """Every second of eight residual blocks leaves."""

    def run(given: Run) -> Figures:
        model = given.fresh(stack)
        drop = LayerDrop(model, sc.trace(model, INPUTS), rate=rate)
        given.fit(model, drop)
        return given.judge(model), given.judge(sc.shrink(model, drop.every_other(0.5)))

    return run


TABLES: dict[str, dict[str, Callable[[Run], Figures]]] = {
    "lenet300, 95 % of the weights are zero": {
        "plain training, then one shot": weights(None),
        "`SparsitySchedule`, `one_shot` half-way": schedule(curve=one_shot, steps=STEPS // 2),
        "`SparsitySchedule`, `linear` in 5 rounds (iterative)": schedule(curve=linear, every=RISE // 5),
        "`SparsitySchedule`, `geometric` in 5 rounds (iterative)": schedule(curve=geometric, every=RISE // 5),
        "`SparsitySchedule`, `cubic` (AGP)": schedule(),
        "`SparsitySchedule`, `memory=1` (feedback)": schedule(memory=1.0),
        "`SparsitySchedule`, `memory=1, margin=0.22` (network surgery)": schedule(memory=1.0, margin=0.22),
        "`SparsitySchedule`, target `WeightsByMovement`": weights(
            lambda model: SparsitySchedule(WeightsByMovement(model, sparsity=SPARSITY), steps=RISE)
        ),
        "`lottery_tickets`, weights rewound, 3 rounds": lottery("weights"),
        "`lottery_tickets`, learning rate rewound, 3 rounds": lottery("rate"),
        "before training: `synflow`": at_initialisation("synflow"),
        "before training: `snip`": at_initialisation("snip"),
        "before training: `grasp`": at_initialisation("grasp"),
        "before training: `random`": at_initialisation("random"),
        "`ADMM`": weights(
            lambda model: ADMM(Weights(model, sparsity=SPARSITY), rho=0.01, growth=1.3, every=STEPS // 20)
        ),
        "`GrowingPenalty`, picked at once (GReg-1)": weights(
            lambda model: GrowingPenalty(Weights(model, sparsity=SPARSITY), **GROWTH)
        ),
        "`GrowingPenalty`, picked later (GReg-2)": weights(
            lambda model: GrowingPenalty(Weights(model, sparsity=SPARSITY), **GROWTH, pick_at=0.5)
        ),
        "`WeightDropout` (targeted dropout)": weights(
            lambda model: WeightDropout(model, share=0.95, rate=0.9, ramp=STEPS // 2)
        ),
    },
    "lenet300, 1:8 (one weight of eight inputs stays)": {
        "plain training, then one shot": one_of_eight(None),
        "`SparsitySchedule`": one_of_eight(lambda target: SparsitySchedule(target, steps=RISE)),
        "`ADMM`": one_of_eight(lambda target: ADMM(target, rho=0.01, growth=1.3, every=STEPS // 20)),
    },
    "three convolutions with BatchNorms, half of the multiply-accumulates": {
        "plain training, then `l2`": channels(None),
        "plain training, then `bn-scale`": channels(None, "bn-scale"),
        "`Slimming`, then `bn-scale`": channels(
            lambda model, structure: Slimming(model, structure, strength=0.03), "bn-scale"
        ),
        "`GroupLasso`, then `bn-scale`": channels(
            lambda model, structure: GroupLasso(model, structure, strength=6e-5), "bn-scale"
        ),
        "`SparsitySchedule`, soft filters": targeted(
            lambda target: SparsitySchedule(target, steps=RISE, every=60, soft=True)
        ),
        "`SparsitySchedule`, `memory=1` (feedback)": targeted(lambda target: SparsitySchedule(target, steps=RISE)),
        "`ADMM`": targeted(lambda target: ADMM(target, rho=0.05, growth=1.3, every=STEPS // 20), whole=True),
        "`GrowingPenalty`, picked at once (GReg-1)": targeted(
            lambda target: GrowingPenalty(target, **GROWTH), whole=True
        ),
        "`GrowingPenalty`, picked later (GReg-2)": targeted(
            lambda target: GrowingPenalty(target, **GROWTH, pick_at=0.5), whole=True
        ),
        "`UnitDropout`, `lowest` (targeted dropout), then `l2`": channels(
            lambda model, structure: UnitDropout(model, structure, odds=lowest(0.5, 0.8), ramp=STEPS // 2)
        ),
        "`UnitDropout`, `by_rank` (structured DropConnect), then `l2`": channels(
            lambda model, structure: UnitDropout(model, structure, odds=by_rank(0.4), ramp=STEPS // 2)
        ),
        "`HardConcreteGates` (L0), then their own order": channels(
            lambda model, structure: HardConcreteGates(model, structure, strength=0.3), "own"
        ),
    },
    "eight residual blocks, every second one leaves": {
        "plain training, then every second": blocks(0.0),
        "`LayerDrop`, rate 0.2": blocks(0.2),
        "`LayerDrop`, rate 0.5": blocks(0.5),
    },
}


def rows() -> Iterator[tuple[str, str, Callable[[Run], Figures]]]:
    for network, named in TABLES.items():
        for name, run in named.items():
            yield network, name, run


def images(*, held_out: bool) -> tuple[ImageSet, ImageSet]:
    """What is trained on, and what is judged on."""
    train = open_data("mnist", "train")
    if not held_out:
        return train, open_data("mnist", "test")
    return train.split(HELD_OUT)


def measured(run: Callable[[Run], Figures], given: Run) -> dict[str, float]:
    started = time.process_time()
    before, after = run(given)
    return {"seed": given.seed, "before": before, "after": after, "cpu_seconds": time.process_time() - started}


def stored() -> dict[str, dict[str, list[dict[str, float]]]]:
    return json.loads(RESULT.read_text())["tables"] if RESULT.exists() else {}


def write(found: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """The results file and the tables on the page."""
    temporary = RESULT.with_suffix(".tmp")
    record = {"torch": torch.__version__, "steps": STEPS, "batch_size": CONFIG.batch_size, "tables": found}
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(temporary, RESULT)
    write_between_markers(PAGE, "methods", "\n\n".join(table(name, runs) for name, runs in found.items()))


def table(network: str, runs: dict[str, list[dict[str, float]]]) -> str:
    """One table as Markdown, in the order of the list above."""
    lines = [f"**{network}**", "", "| method | before | after | spread | CPU s |", "|---|---:|---:|---:|---:|"]
    for name in TABLES[network]:
        if runs.get(name):
            before, after = ([100 * row[key] for row in runs[name]] for key in ("before", "after"))
            seconds = statistics.mean(row["cpu_seconds"] for row in runs[name])
            spread = statistics.stdev(after) if len(after) > 1 else 0.0
            means = f"{statistics.mean(before):.2f} | {statistics.mean(after):.2f}"
            lines.append(f"| {name} | {means} | {spread:.2f} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", default="", help="rows whose network or name holds this text")
    parser.add_argument("--held-out", action="store_true", help="judge on held-out training images, write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, test = images(held_out=options.held_out)
    for seed in options.seeds:
        given = Run(train, lambda model: evaluate(model, test)["accuracy"], seed)
        for network, name, run in rows():
            found = {} if options.held_out else stored()
            done = found.setdefault(network, {}).setdefault(name, [])
            if options.only not in f"{network} {name}" or any(row["seed"] == seed for row in done):
                continue
            done.append(measured(run, given))
            print(f"{network}: {name}: {done[-1]}", flush=True)
            if not options.held_out:
                write(found)


if __name__ == "__main__":
    main()
