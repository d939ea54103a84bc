"""What lies beside an exported file, for those who deploy it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.spec.record import Record
from secateur.spec.run import Verification

Dimension = int | str
"""A size, or the name of one that the caller chooses: `batch`, `length`."""


@dataclass(frozen=True)
class Port:
    """A tensor that goes in or comes out."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...]


@dataclass(frozen=True)
class ExportRecord(Record):
    """An exported file: what it reads and gives, how far it is from the network, and its hash."""

    format: str
    model: str
    """Qualified name of the network's class."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    sha256: Mapping[str, str]
    """By name, of the file and of those that belong to it."""
    size_bytes: Mapping[str, int]
    verification: Verification
    """The worst of all runs."""
    runs: tuple[Mapping[str, Any], ...] = ()
    """For each run of the file on fresh inputs: the sizes, `max_abs_diff` and `relative_diff`."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What only this format has, such as `opset`."""
    source: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Where the network came from."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()
    schema_version: int = 1
