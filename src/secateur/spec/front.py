"""The front of a search: of what it tried, what no other beats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Event = Mapping[str, Any]


def cost_of_unit(unit: str) -> str:
    """The metric that tells what an absolute budget of this unit limits."""
    return {"mac_count": "macs"}.get(unit, unit)


def front_of(rows: Iterable[Event], cost: str) -> list[Event]:
    """Those that no other beats in both accuracy and this cost, the largest first; without those that do not tell it,
    which were tried before it was budgeted."""
    best: list[Event] = []
    for row in sorted((row for row in rows if cost in row), key=lambda row: (row[cost], -row["accuracy"])):
        if not best or row["accuracy"] > best[-1]["accuracy"]:
            best.append(row)
    return best[::-1]
