"""What every kind of run can say of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from secateur.report.html import Html
from secateur.report.numbers import METRICS, measured, number, percent
from secateur.report.parts import Section


@dataclass(frozen=True)
class Finding:
    """One thing that came out, to be read at a glance: `1.8× fewer`, `multiply-accumulates`."""

    figure: str
    what: str


class Run(Protocol):
    """A run of one kind; each kind is a file of this package."""

    @property
    def path(self) -> Path: ...

    def title(self) -> str:
        """What it is, in a few words."""
        ...

    def done(self) -> Html:
        """What was done, in a sentence."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """What came out, for tables of several runs."""
        ...

    def findings(self) -> list[Finding]:
        """The verdict."""
        ...

    def verified(self) -> bool | None:
        """Whether the proof holds; None where there is none."""
        ...

    def sections(self) -> Iterator[Section]:
        """Pictures, tables, proof and provenance, where the run has them."""
        ...


FOUND = ("macs", "param_count", "size_bytes", "latency_ms", "accuracy", "perplexity")
WORDS = {
    "macs": "multiply-accumulates",
    "param_count": "parameters",
    "size_bytes": "bytes",
    "perplexity": "perplexity",
}


def findings_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Finding]:
    """What changed of the metrics that are read first."""
    old, new = measured(before), measured(after)
    found = [made for key in FOUND for made in [_finding(key, old, {**after, **new})] if made is not None]
    share = new.get("sparsity", 0.0)
    if share - old.get("sparsity", 0.0) > 0.0005:
        found.insert(0, Finding(f"{100 * share:.3g} %", "of the weights are zero"))
    return found


def _finding(key: str, before: Mapping[str, float], after: Mapping[str, Any]) -> Finding | None:
    if key == "latency_ms":
        return faster(after)
    if key not in before or key not in after:
        return None
    if key == "accuracy":
        return of_accuracy(before[key], after[key])
    if key == "size_bytes" and "param_count" in after:
        return None
    change = METRICS[key].change(before[key], after[key])
    return None if change in ("", "unchanged") else Finding(change, WORDS[key])


def faster(after: Mapping[str, Any]) -> Finding | None:
    """Only what was measured in turn counts, and only beyond what times vary by."""
    speedup, spread = number(after.get("speedup")), number(after.get("speedup_iqr")) or 0.0
    if speedup is None or speedup <= 0:
        return None
    if abs(speedup - 1) <= max(0.005, spread / 2):
        return Finding("as fast", "here, within what times vary by")
    return Finding(METRICS["latency_ms"].change(speedup, 1.0), "here")


def of_accuracy(before: float, after: float) -> Finding:
    """What became of it; both between 0 and 1."""
    points = 100 * (after - before)
    if abs(points) < 0.005:
        return Finding("no point", f"of accuracy lost, {percent(after)} as before")
    word = "point" if f"{abs(points):.2g}" == "1" else "points"
    return Finding(f"{abs(points):.2g} {word}", f"of accuracy {'lost' if points < 0 else 'won'}, {percent(after)} now")
