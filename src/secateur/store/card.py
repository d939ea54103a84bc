"""The README.md of a saved folder: how to load it, what it costs, the proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.spec import RunRecord


def model_card(run: RunRecord, source: Mapping[str, Any]) -> str:
    """Markdown for a saved model."""
    lines = [f"# {run.model}", "", f"Saved by `secateur {run.verb}`.", "", "```python", *_loading(run, source), "```", ""]
    keys = [key for key in run.before if isinstance(run.before[key], int | float) and key in run.after]
    if keys:
        lines += ["| | before | after |", "|---|---:|---:|"]
        lines += [f"| {key} | {_shown(run.before[key])} | {_shown(run.after[key])} |" for key in keys]
        lines.append("")
    if run.verification is not None:
        state = "Verified" if run.verification.ok else "NOT verified"
        lines.append(
            f"{state}: the largest difference from the reference is {run.verification.max_abs_diff:.3g}, "
            f"{run.verification.relative_diff:.2g} of the largest output (tolerance {run.verification.tolerance:g})."
        )
    return "\n".join(lines) + "\n"


def _loading(run: RunRecord, source: Mapping[str, Any]) -> list[str]:
    if source:
        return ["import secateur as sc", 'model = sc.load("path/to/this/folder")']
    name = run.model.rsplit(".", 1)[-1]
    return ["import secateur as sc", f'model = sc.load("path/to/this/folder", {name}(...))  # built as the original was']


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
