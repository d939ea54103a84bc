"""What was measured, and the record of a run that reports are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.spec.record import Record

METRICS = (
    "accuracy", "perplexity", "loss", "param_count", "macs", "size_bytes", "latency_ms", "speedup", "sparsity",
    "link_bytes",
)  # fmt: skip
"""Metric keys, one meaning each (docs/glossary.md)."""


@dataclass(frozen=True)
class Verification:
    """Comparison of the shrunk model with the reference on the same inputs."""

    max_abs_diff: float
    relative_diff: float
    """Largest absolute difference over the largest absolute output of the reference."""
    ok: bool
    tolerance: float = 1e-4
    detail: str = ""

    def said(self) -> str:
        """In a line."""
        state = "verified" if self.ok else "NOT VERIFIED"
        return f"{state}: differs from the reference by {self.relative_diff:.1e} of the output's scale"


@dataclass(frozen=True)
class PastRun:
    """What is kept of a run that led to the network with which another one began."""

    verb: str
    before: Mapping[str, Any] = field(default_factory=dict[str, Any])
    after: Mapping[str, Any] = field(default_factory=dict[str, Any])
    verification: Verification | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stages: tuple[Mapping[str, Any], ...] = ()
    """Of cutting and healing; what each epoch of training came to is not kept."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class RunRecord(Record):
    """One verb's run: what was asked, what came out, and what is needed to do it again."""

    verb: str
    model: str
    before: Mapping[str, Any] = field(default_factory=dict[str, Any])
    after: Mapping[str, Any] = field(default_factory=dict[str, Any])
    verification: Verification | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    stages: tuple[Mapping[str, Any], ...] = ()
    """Metrics after each stage, in order: `{"stage": "cut", ...}`."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    """What the result cannot do that one might expect, and why."""
    past: tuple[PastRun, ...] = ()
    """The runs before this one, the first one first."""
    schema_version: int = 1

    def with_itself(self) -> tuple[PastRun, ...]:
        """The past of whatever begins with the network of this run."""
        stages = tuple(stage for stage in self.stages if "stage" in stage)
        own = PastRun(self.verb, self.before, self.after, self.verification, self.options, stages, self.environment)
        return (*self.past, own)
