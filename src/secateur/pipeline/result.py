"""What `prune` returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from secateur.spec import ElementMasks, Plan, RunRecord, Structure, Verification
from secateur.store import environment, save_folder

Metrics = Mapping[str, Any]
Evaluate = Callable[[nn.Module], float | Metrics]


@dataclass(frozen=True)
class PruneResult:
    """The smaller model, the plan that made it, what it costs before and after, and the proof."""

    model: nn.Module
    plan: Plan
    before: Metrics
    after: Metrics
    verification: Verification | None
    options: Metrics = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What the result cannot do that one might expect, and why."""
    stages: tuple[Metrics, ...] = ()
    """What was measured after the cut and each stage of healing: `{"stage": "refit", "accuracy": ...}`."""
    masks: ElementMasks | None = None
    """Which single weights are zero, where these were pruned; the plan cuts nothing then."""

    @property
    def structure(self) -> Structure:
        """The structure of the model that was cut."""
        return self.plan.structure

    def table(self) -> str:
        """Before and after, a metric a line, as plain text."""
        rows = [("", "before", "after", "kept")]
        for key, before in self.before.items():
            after = self.after.get(key)
            if isinstance(before, int | float) and isinstance(after, int | float):
                share = f"{after / before:.1%}" if before else "-"
                rows.append((key, shown(before), shown(after), share))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        lines += self.stage_lines()
        if self.verification is not None:
            lines.append(self.verification.said())
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def stage_lines(self) -> list[str]:
        """What was measured after the cut and after each stage of healing, a stage a line."""
        lines: list[str] = []
        for stage in self.stages:
            numbers = [f"{key} {shown(value)}" for key, value in stage.items() if isinstance(value, int | float)]
            lines.append(f"after {stage['stage']}: {', '.join(numbers) or 'nothing was measured'}")
        return lines

    def save(self, directory: str | Path, *, source: Metrics | None = None) -> Path:
        """Write weights, plan, run record and model card to a folder that `secateur.load` reads; returns its path."""
        return save_folder(self.model, directory, run=self.run_record(), source=source)

    def run_record(self) -> RunRecord:
        """The record of this run."""
        model = self.plan.structure.model
        return RunRecord(
            "prune",
            model,
            self.before,
            self.after,
            self.verification,
            self.options,
            self.stages,
            environment(),
            self.notes,
        )


def shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def evaluated(evaluate: Evaluate | None, model: nn.Module) -> dict[str, Any]:
    if evaluate is None:
        return {}
    value = evaluate(model)
    return dict(value) if isinstance(value, Mapping) else {"accuracy": float(value)}
