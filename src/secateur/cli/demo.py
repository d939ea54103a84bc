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

    seeds: Annotated[int, Option(help="Networks to train, from --seed on.")] = 3
    out: Annotated[Path, Option(metavar="DIR", help="Folder for demo.json and the networks.")] = Path("demo-out")


def run(options: Options) -> Outcome:
    """Compare four ways to prune a small network. Channels or single weights, retrained or not, offline in a minute."""
    raise NotImplementedError
