"""`secateur compare`: structured or not, retrained or not, at one number of parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from typer import Option

from secateur.cli.options import DataOptions, ModelOptions
from secateur.cli.outcome import Outcome
from secateur.cli.tables import table

COLUMNS = (
    ("params_left", "parameters left"),
    ("macs", "MACs"),
    ("file_bytes", "file, kB"),
    ("packed_bytes", "packed, kB"),
    ("latency_ms", "ms"),
    ("speedup", "times as fast"),
)


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, DataOptions):
    """Options of `compare`; the defaults suit small networks."""

    budget: Annotated[
        list[str],
        Option(metavar="UNIT=VALUE", help="What the channels may cost, e.g. params=0.3; single weights follow."),
    ] = field(default_factory=lambda: ["params=0.3"])
    criterion: Annotated[str, Option(help="How channels are scored (secateur list criteria).")] = "auto"
    allocator: Annotated[str, Option(help="How the budget is spread (secateur list allocators).")] = "auto"
    recover: Annotated[str, Option(help="Healing of what is not retrained yet: auto, or none.")] = "auto"
    calibration: Annotated[int, Option(help="Training images that healing looks at; 0 for none.")] = 1024
    train_epochs: Annotated[
        int, Option(help="Rounds of training of the dense network, where MODEL has no weights, and from scratch.")
    ] = 3
    train_lr: Annotated[float, Option(help="Largest learning rate of training.")] = 0.05
    epochs: Annotated[int, Option(help="Rounds of retraining.")] = 2
    lr: Annotated[float, Option(help="Largest learning rate of retraining.")] = 0.02
    batch_size: Annotated[int, Option(help="Images per step.")] = 64
    augment: Annotated[bool, Option("--augment", help="Shift images at random, and mirror them where that fits.")] = (
        False
    )
    repeats: Annotated[int, Option(help="Seeds, from --seed on.")] = 3
    out: Annotated[Path, Option(metavar="DIR", help="Folder of the cells; the same command goes on there.")] = Path(
        "comparison"
    )


def run(options: Options) -> Outcome:
    """Compare whole channels with single weights, retrained and not, at one number of parameters; beside them the dense
    network, random channels and training from scratch. A run that was killed goes on where it was."""
    from secateur.cli.opening import look_up
    from secateur.cli.recipe import as_record
    from secateur.cli.session import note
    from secateur.comparison import Comparison, winners
    from secateur.spec import SecateurError, parse_budgets
    from secateur.structure.capture import normalise_inputs
    from secateur.train import TrainConfig

    if options.repeats < 1 or options.calibration < 0:
        raise SecateurError(
            f"--repeats {options.repeats} --calibration {options.calibration}: expected at least 1 seed and no less "
            "than 0 images"
        )
    budget = {item.unit: item.value for item in parse_budgets(options.budget)}
    target = look_up(options)
    train_set, test_set = target.images(options, "train"), target.images(options, "test")
    opened = target.build(train_set)
    untrained = replace(target, folder=None, weights=None)
    shared: dict[str, Any] = {"batch_size": options.batch_size, "augment": options.augment, "device": options.device}
    comparison = Comparison(
        out=options.out,
        build=lambda seed: replace(untrained, seed=seed).build(train_set).model,
        inputs=normalise_inputs(opened.inputs),
        train_set=train_set,
        test_set=test_set,
        budget=budget,
        training=TrainConfig(epochs=options.train_epochs, learning_rate=options.train_lr, **shared),
        retraining=TrainConfig(epochs=options.epochs, learning_rate=options.lr, schedule="cosine", **shared),
        trained=opened.model if target.is_trained else None,
        options={"criterion": options.criterion, "allocator": options.allocator, "recover": options.recover},
        calibration=options.calibration,
        source=opened.source,
        told=note,
    )
    settings = {key: value for key, value in as_record(options).items() if key not in ("out", "repeats", "threads")}
    rows = comparison.rows(range(options.seed, options.seed + options.repeats), settings)
    best = dict(winners(rows))
    text = f"{summary(rows)}\n\n{verdict(best)}\n\nsaved to {options.out}"
    return Outcome({"rows": rows, "best": best, "out": str(options.out)}, text)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A cell a line: accuracy as the mean over the seeds with the standard deviation, the rest as means."""
    from secateur.comparison import CELLS

    lines = [("", "accuracy, %", *(title for _, title in COLUMNS))]
    for cell, said in CELLS.items():
        own = [row for row in rows if row["cell"] == cell]
        costs = [_cost(key, mean(row[key] for row in own)) for key, _ in COLUMNS]
        name = f"{said[:2]} {cell}" if said[1] == ":" else f"   {cell}"
        lines.append((name, _percent([row["accuracy"] for row in own]), *costs))
    return table(lines)


def verdict(best: Mapping[str, Sequence[str]]) -> str:
    """Which cell of the 2x2 wins by which measure, a measure a line."""
    return "\n".join(f"best by {measure}: {' and '.join(cells)}" for measure, cells in best.items())


def _cost(key: str, value: float) -> str:
    if key.endswith("_bytes"):
        return f"{value / 1000:,.1f}"
    decimals = {"latency_ms": 3, "speedup": 2}.get(key)
    return f"{round(value):,}" if decimals is None else f"{value:.{decimals}f}"


def _percent(shares: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{100 * mean(shares):.2f}{spread}"
