"""Plain tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under each other: the first column flush left, the others flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()


def before_and_after(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A metric a line: of costs the share that is kept, of accuracy, perplexity and loss the difference."""
    rows = [("", "before", "after", "")]
    for key, value in before.items():
        new = after.get(key)
        if isinstance(value, int | float) and isinstance(new, int | float):
            rows.append((key, shown(value), shown(new), _change(key, value, new)))
    return table(rows)


def _change(key: str, before: float, after: float) -> str:
    if key in ("accuracy", "perplexity", "loss") or not before:
        return f"{after - before:+.4f}"
    return f"{after / before:.1%}"


def metrics(values: Mapping[str, Any]) -> str:
    """A metric a line."""
    return table([(key, shown(value)) for key, value in values.items()])


def shown(value: Any) -> str:
    """A number as people read it."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
