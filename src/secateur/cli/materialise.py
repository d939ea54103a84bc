"""`secateur materialise`: a network that a search has seen, as a folder of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from secateur.cli.options import Common, OutOptions
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(OutOptions, Common):
    """Options of `materialise`."""

    run: Annotated[Path | None, Argument(metavar="RUN", help="Folder of a search.")] = None
    iteration: Annotated[int, Option(metavar="N", help="Which iteration's network.")] = 1
    block: Annotated[
        str | None,
        Option(metavar="NAME", help="The candidate that cuts this block; the one that was chosen, if not given."),
    ] = None


def run(options: Options) -> Outcome:
    """Save a network that a search has seen: what an iteration chose, or any other candidate, which is made again."""
    from secateur.cli import search
    from secateur.cli.recipe import FILE_NAME, resolved
    from secateur.cli.saving import demand_out
    from secateur.search.netadapt.run_folder import JOURNAL
    from secateur.search.workers import open_workers
    from secateur.spec import StoreError

    recipe = None if options.run is None else options.run / FILE_NAME
    if options.run is None or recipe is None or not (recipe.is_file() and (options.run / JOURNAL).is_file()):
        raise StoreError(f"{options.run} is no folder of a search; name the --out of secateur search")
    out = demand_out(options.out)
    asked = resolved("search", search.Options, {"recipe": recipe, "out": options.run})
    found, _ = search.opened_search(asked)
    if options.block is not None:  # it is made again as it was made then
        found.workers = open_workers(asked.workers, threads=asked.threads or 1, device=asked.device)
    try:
        row, proof = found.materialise(options.iteration, options.block, out)
    finally:
        found.workers.close()
    said = f"{row['block']} {row['before']} -> {row['after']}, accuracy {row['accuracy']:.4f}, {row['macs']:,} MACs"
    said += "" if proof is None else f"\n{proof.said()}"
    return Outcome({**row, "out": str(out)}, f"{said}\nsaved to {out}", verified=proof is None or proof.ok)
