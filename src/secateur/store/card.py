"""The README.md of a saved folder: how to load it, what it costs, the proof."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secateur.spec import RunRecord

SAFE_SOURCES = ("torchvision:", "timm:", "hf:", "nas:")
"""Prefixes that a folder may ask to be built from; a factory of somebody's own runs only when the caller names it."""


def model_card(run: RunRecord, source: Mapping[str, Any], *, from_pretrained: bool = False) -> str:
    """Markdown for a saved model.

    from_pretrained: whether transformers' own loader reads the folder, too.
    """
    lines = [
        f"# {run.model}",
        "",
        f"Saved by `secateur {run.verb}`.",
        "",
        "```python",
        *(_loading_without(run) if from_pretrained else []),
        *_loading(run, source),
        "```",
        "",
        *(f"Note: {note}.\n" for note in run.notes),
    ]
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


def _loading_without(run: RunRecord) -> list[str]:
    """For somebody who has no Secateur."""
    name = run.model.rsplit(".", 1)[-1]
    return [
        f"from transformers import {name}",
        f'model = {name}.from_pretrained("path/to/this/folder")  # or, with the plan:',
    ]


def _loading(run: RunRecord, source: Mapping[str, Any]) -> list[str]:
    name = source.get("name", "")
    if name and (":" not in name or name.startswith(SAFE_SOURCES)):
        return ["import secateur as sc", 'model = sc.load("path/to/this/folder")']
    original = f"{run.model.rsplit('.', 1)[-1]}(...)"
    built = f"built as the original was{f', by {name}' if name else ''}"
    return ["import secateur as sc", f'model = sc.load("path/to/this/folder", {original})  # {built}']


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
