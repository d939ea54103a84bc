"""The table that grows while a search runs: a line for every candidate as it is judged, and for what is chosen."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.search.netadapt.proposals import Proposal

WIDTHS = (4, 10, 28, 7, 7, 9, 15)


def _line(cells: Sequence[str]) -> str:
    """The stage and the block flush left, the rest flush right."""
    left = (1, 2)
    placed = (
        cell.ljust(width) if number in left else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    )
    return "  ".join(placed).rstrip()


HEAD = _line(("N", "stage", "block", "before", "after", "accuracy", "MACs"))
CHOSEN = "chosen"


def row(iteration: int, stage: str, proposal: Proposal, accuracy: float) -> str:
    """What a candidate came to in a stage."""
    sizes = (f"{proposal.before:,}", f"{proposal.after:,}")
    return _line((str(iteration), stage, proposal.block, *sizes, f"{accuracy:.4f}", f"{proposal.costs['macs']:,}"))


def failed(iteration: int, proposal: Proposal, reason: str) -> str:
    """Why a candidate has left the race."""
    return f"{_line((str(iteration), 'failed', proposal.block, *[''] * 4))}: {reason}"
