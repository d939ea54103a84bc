"""`secateur demo`: whole channels against single weights, with and without retraining, offline in about a minute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from secateur.cli import compare
from secateur.cli.options import Common
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Options of `demo`."""

    repeats: Annotated[int, Option(help="Networks to train, with seeds from --seed on.")] = 3
    epochs: Annotated[int, Option(help="Rounds of training; half as many of retraining.")] = 16
    out: Annotated[Path, Option(metavar="DIR", help="Folder of the networks; the same command goes on there.")] = Path(
        "demo-out"
    )


def run(options: Options) -> Outcome:
    """Compare four ways to prune a small network. `compare` on digits that come with a dependency, offline, by
    magnitude and without healing."""
    return compare.run(
        compare.Options(
            model="lenet5",
            data="digits",
            budget=["channels=0.5"],
            criterion="l1",
            recover="none",
            calibration=0,
            train_epochs=options.epochs,
            epochs=max(1, options.epochs // 2),
            repeats=options.repeats,
            seed=options.seed,
            device=options.device,
            threads=options.threads,
            out=options.out,
        )
    )
