"""`secateur demo`: whole channels against single weights, with and without retraining, offline in a minute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from secateur.cli.options import Common
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Options of `demo`."""

    repeats: Annotated[int, Option(help="Networks to train, with seeds from --seed on.")] = 3
    epochs: Annotated[int, Option(help="Rounds of training; half as many of retraining.")] = 16
    out: Annotated[Path, Option(metavar="DIR", help="Folder for demo.json and the networks.")] = Path("demo-out")


def run(options: Options) -> Outcome:
    """Compare four ways to prune a small network. Channels or single weights, retrained or not, offline in a minute."""
    from secateur.cli.comparison import compare, demand_free, summary, write

    demand_free(options.out)
    rows = compare(range(options.seed, options.seed + options.repeats), options.epochs, options.device, options.out)
    record = write(options.out, rows, options)
    return Outcome(record, f"{summary(rows)}\n\nsaved to {options.out}")
