"""The 2x2 of the demo: whole channels or single weights, retrained or not, all with the same number of parameters left,
beside the dense network and random channels."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from torch import Tensor, nn

from secateur.cli.options import Common
from secateur.cli.outcome import as_json
from secateur.cli.recipe import as_record
from secateur.cli.session import note
from secateur.cli.tables import table
from secateur.data import ImageSet, open_data
from secateur.models import build_model, example_inputs
from secateur.pipeline import prune
from secateur.sparse import as_tensors, prunable_weights, sparsity
from secateur.spec import RunRecord, SecateurError
from secateur.store import save_folder
from secateur.train import TrainConfig, evaluate, fit

MODEL, DATA, BUDGET, FILE_NAME = "lenet5", "digits", "channels=0.5", "demo.json"
Cut = tuple[nn.Module, Mapping[str, Tensor]]
"""The pruned network and its element masks, which are empty where whole channels left."""


@dataclass(frozen=True)
class Row:
    """One way of pruning one network."""

    way: str
    seed: int
    left: int
    """Parameters that are not zero by the cut."""
    accuracy: float
    retrained_accuracy: float


def _channels(model: nn.Module, *, criterion: str, seed: int = 0) -> nn.Module:
    return prune(model, example_inputs(MODEL), budget=BUDGET, criterion=criterion, seed=seed).model


def _single_weights(model: nn.Module) -> Cut:
    """As many parameters as `_channels` leaves; the smallest weights of the whole network go."""
    removed = _count(model) - _count(_channels(model, criterion="l1"))
    prunable = sum(weight.numel() for weight in prunable_weights(model).values())
    budget = {"sparsity": removed / prunable}
    made = prune(model, example_inputs(MODEL), budget=budget, granularity="element", allocator="global")
    return made.model, as_tensors(made.masks)


WAYS: Mapping[str, Callable[[nn.Module, int], Cut]] = {
    "dense": lambda model, _: (copy.deepcopy(model), {}),
    "channels, l1": lambda model, _: (_channels(model, criterion="l1"), {}),
    "single weights, magnitude": lambda model, _: _single_weights(model),
    "channels, random": lambda model, seed: (_channels(model, criterion="random", seed=seed), {}),
}


def demand_free(out: Path) -> None:
    """Raise SecateurError unless the folder is new, empty, or that of an earlier demo."""
    if out.exists() and not (out.is_dir() and ((out / FILE_NAME).is_file() or not any(out.iterdir()))):
        raise SecateurError(f"{out} exists and holds no earlier demo; choose another --out, or remove it")


def compare(seeds: Iterable[int], epochs: int, device: str, out: Path) -> list[Row]:
    """Train one network per seed, prune each in every way, and save the networks under `out`."""
    training = TrainConfig(epochs=epochs, batch_size=64, learning_rate=0.05, device=device)
    input_shape = (1, 32, 32)
    train_set, test_set = (open_data(DATA, split, input_shape=input_shape) for split in ("train", "test"))
    rows: list[Row] = []
    for seed in seeds:
        note(f"seed {seed}: training {MODEL} on {DATA}")
        model = build_model(MODEL, seed=seed)
        fit(model, train_set, config=replace(training, seed=seed))
        for way in WAYS:
            note(f"seed {seed}: {way}")
            config = replace(training, seed=seed, epochs=max(1, epochs // 2), learning_rate=0.02, schedule="cosine")
            rows.append(_row(way, model, train_set, test_set, config=config, out=out))
    return rows


def _row(way: str, dense: nn.Module, train_set: ImageSet, test_set: ImageSet, *, config: TrainConfig, out: Path) -> Row:
    model, masks = WAYS[way](dense, config.seed)
    left = _count(model) - round(sparsity(model) * sum(weight.numel() for weight in prunable_weights(model).values()))
    folder = out / f"seed-{config.seed}" / way.replace(", ", "-").replace(" ", "-")
    pruned = evaluate(model, test_set, device=config.device)
    _save(model, folder, pruned)
    fit(model, train_set, config=config, masks=masks)
    retrained = evaluate(model, test_set, device=config.device)
    _save(model, folder.with_name(f"{folder.name}-retrained"), retrained)
    return Row(way, config.seed, left, pruned["accuracy"], retrained["accuracy"])


def _save(model: nn.Module, folder: Path, metrics: Mapping[str, float]) -> None:
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    save_folder(model, folder, run=RunRecord("demo", name, after=metrics), source={"name": MODEL})


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def write(out: Path, rows: Sequence[Row], options: Common) -> dict[str, Any]:
    """Write `demo.json` with every row; returns the record."""
    made = {"model": MODEL, "data": DATA, "budget": BUDGET, "options": as_record(options)}
    record = {**made, "rows": [asdict(row) for row in rows]}
    temporary = out / f"{FILE_NAME}.tmp"
    temporary.write_text(as_json(record))
    os.replace(temporary, out / FILE_NAME)
    return record


def summary(rows: Sequence[Row]) -> str:
    """The table: a way a line, accuracies as the mean over the seeds with the standard deviation."""
    lines = [("accuracy on the test images, %", "parameters left", "not retrained", "retrained")]
    for way in WAYS:
        own = [row for row in rows if row.way == way]
        before, after = [row.accuracy for row in own], [row.retrained_accuracy for row in own]
        lines.append((way, f"{own[0].left:,}", _percent(before), _percent(after)))
    return table(lines)


def _percent(shares: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * mean(shares):.1f}{spread}"
