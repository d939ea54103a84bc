"""The table that grows while a search runs: a line for every candidate as it is judged, and for what is chosen."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.search.netadapt.proposals import Proposal
from secateur.spec.budget import LATENCY_MS

WIDTHS = (4, 10, 28, 7, 7, 9, 15, 9)


def _line(cells: Sequence[str]) -> str:
    """The stage and the block flush left, the rest flush right."""
    left = (1, 2)
    placed = (
        cell.ljust(width) if number in left else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, WIDTHS[: len(cells)], strict=True))
    )
    return "  ".join(placed).rstrip()


CHOSEN = "chosen"


def head(*, timed: bool) -> str:
    """timed: whether proposals tell their time."""
    return _line(("N", "stage", "block", "before", "after", "accuracy", "MACs", *(["ms"] if timed else [])))


def row(iteration: int, stage: str, proposal: Proposal, accuracy: float) -> str:
    """What a candidate came to in a stage."""
    sizes = (f"{proposal.before:,}", f"{proposal.after:,}")
    costs = [f"{proposal.costs['macs']:,}"]
    if LATENCY_MS in proposal.costs:
        costs.append(f"{proposal.costs[LATENCY_MS]:.3f}")
    return _line((str(iteration), stage, proposal.block, *sizes, f"{accuracy:.4f}", *costs))


def failed(iteration: int, proposal: Proposal, reason: str) -> str:
    """Why a candidate has left the race."""
    return f"{_line((str(iteration), 'failed', proposal.block, *[''] * 4))}: {reason}"
