"""One page of HTML from the folders of runs: it stands alone, loads nothing, and needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secateur.report.bench import Bench
from secateur.report.comparison import Comparison
from secateur.report.page import DOCTYPE, GENERATOR, page
from secateur.report.partition import Partition
from secateur.report.run import Run
from secateur.report.saved_model import SavedModel
from secateur.report.search import Search
from secateur.report.sensitivity import Sensitivity
from secateur.report.training import TrainingLog
from secateur.spec import StoreError
from secateur.spec.files import write_whole

__all__ = ["read_run", "write_report"]

KINDS = (Search, Partition, Comparison, Sensitivity, Bench, SavedModel, TrainingLog)
"""What a path can be, in the order in which it is looked at."""


def read_run(path: str | Path) -> Run:
    """The run of a folder, or of a training log; raises StoreError where it is none, or is damaged."""
    path = Path(path)
    for kind in KINDS:
        found = kind.read(path)
        if found is not None:
            return found
    what = "holds no run" if path.is_dir() else "is no run" if path.exists() else "does not exist"
    raise StoreError(
        f"{path} {what}; name a folder that prune, train, finetune, sensitivity, search, compare, bench or partition "
        "wrote (--out), or a training log (--log FILE.jsonl)"
    )


def write_report(runs: Sequence[str | Path], out: str | Path) -> list[Run]:
    """Write the page, whole or not at all; returns what it shows.

    Raises StoreError for a path that is no run, for records that contradict themselves, and where something else than a
    report has the name of the page.
    """
    if not runs:
        raise StoreError("nothing to report; name the folders of some runs")
    out = Path(out)
    _demand_free(out)
    found = [read_run(run) for run in runs]
    try:
        content = page(found)
    except (AttributeError, LookupError, ArithmeticError, TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"the records of {', '.join(map(str, runs))} contradict themselves: {error!r}") from error
    write_whole(out, content)
    return found


def _demand_free(out: Path) -> None:
    if not out.absolute().parent.is_dir():
        raise StoreError(f"{out} cannot be written: {out.parent} is no folder; choose another -o")
    if not out.exists():
        return
    if out.is_file():
        with out.open("rb") as file:
            start = file.read(4096)
        if start.startswith(DOCTYPE.encode()) and GENERATOR.encode() in start:
            return
    raise StoreError(f"{out} exists and is no report; choose another -o, or remove it")
