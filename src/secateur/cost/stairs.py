"""The widths at which operators are timed: a width in between takes as long as the next larger one."""

from __future__ import annotations

from secateur.spec import Axis

COUNTED = ("heads", "experts", "blocks")
"""Roles of axes whose every size is timed: one more is a lot."""


def level_of(axis: Axis, size: int) -> int:
    """The width that is timed for this size of the axis: never smaller, never more than the whole axis."""
    return size if axis.role in COUNTED else min(axis.size, stair(size))


def stair(width: int) -> int:
    """The next of the widths that are timed: 16 to each doubling, and even ones below 64."""
    step = max(2, 1 << max(0, width.bit_length() - 5))
    return -(-width // step) * step
