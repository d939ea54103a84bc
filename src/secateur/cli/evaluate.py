"""`secateur evaluate`: accuracy or perplexity, and costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from secateur.cli.options import DataOptions, ModelOptions
from secateur.cli.outcome import Outcome
from secateur.cli.tables import metrics


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions, DataOptions):
    """Options of `evaluate`."""

    split: Annotated[str, Option(help="train or test.")] = "test"
    latency: Annotated[bool, Option("--latency", help="Measure the time of one forward, too.")] = False


def run(options: Options) -> Outcome:
    """Measure accuracy (of text perplexity), loss and costs."""
    from secateur.cli.measuring import measured
    from secateur.cli.opening import look_up

    target = look_up(options)
    data = target.examples(options, options.split)
    found = measured(target.build(data), data, latency=options.latency)
    return Outcome(found, metrics(found))
