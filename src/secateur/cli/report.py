"""`secateur report`: what runs did, as one page to look at and to send."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from secateur.cli.options import Common
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Options of `report`."""

    runs: Annotated[
        list[Path],
        Argument(metavar="RUNS", help="Folders that other verbs wrote (--out), and training logs (--log FILE.jsonl)."),
    ] = field(default_factory=list)
    out: Annotated[Path, Option("-o", "--out", metavar="FILE.html", help="The page.")] = Path("report.html")


def run(options: Options) -> Outcome:
    """Show runs on one page of HTML that stands alone: numbers, pictures, proof, provenance; several side by side."""
    from secateur.report import write_report

    found = write_report(options.runs, options.out)
    record = {
        "out": str(options.out),
        "runs": [
            {
                "run": str(one.path),
                "title": one.title(),
                "findings": [f"{finding.figure} {finding.what}" for finding in one.findings()],
            }
            for one in found
        ],
    }
    lines = [f"{row['run']}: {'; '.join([row['title'], *row['findings']])}" for row in record["runs"]]
    return Outcome(record, "\n".join([*lines, f"saved to {options.out}"]))
