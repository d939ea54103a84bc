"""The counts that axes may keep: multiples, by number or by the kind of device; or those at which the device at hand
gets faster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from secateur.cost import LatencyModel
from secateur.spec import BudgetError
from secateur.spec.errors import nearest

PROFILES: Mapping[str, int] = {
    "cpu": 8,
    "tensor-core-fp16": 8,
    "tensor-core-int8": 16,
    "npu-32": 32,
    "npu-64": 64,
}
"""Vector registers of CPUs and the tiles of tensor cores and of common accelerators."""

AUTO = "auto"
"""Counts at which the measured time falls."""
LEAST_GAIN = 0.02
"""Share of its operators' time that an axis must save from one allowed count to the next."""


def multiple_of(round_to: int | str) -> int:
    """The multiple that a number or the name of a profile stands for; raises BudgetError for any other."""
    if isinstance(round_to, str) and not round_to.isdecimal():
        if round_to not in PROFILES:
            if round_to == AUTO:
                raise BudgetError("rounding to what is measured to be faster does not apply here; give a number")
            known = nearest(round_to, [AUTO, *PROFILES])
            raise BudgetError(f"unknown rounding {round_to!r}: give a number, or one of: {known}")
        return PROFILES[round_to]
    multiple = int(round_to)
    if multiple < 1:
        raise BudgetError(f"round_to must be at least 1, got {multiple}")
    return multiple


def faster_levels(members: Sequence[tuple[str, int]], levels: Sequence[int], latency: LatencyModel) -> list[int]:
    """Of these levels, ascending and ending with the full one, those at which the operators of the axes are faster, by
    `LEAST_GAIN`, than at the next larger one that is allowed; the other axes at their full size. The full one stays.

    members: (axis, multiple); at level `t` an axis keeps `multiple * t` indices.
    """
    places = [(latency.names.index(axis), multiple) for axis, multiple in members]
    axes = [axis for axis, _ in members]

    def time_ms(level: int) -> float:
        sizes = latency.full.copy()
        for position, multiple in places:
            sizes[position] = multiple * level
        return latency.time_of(axes, sizes)

    *smaller, full = levels
    allowed, ahead = [full], time_ms(full)
    for level in reversed(smaller):
        now = time_ms(level)
        if now < ahead * (1 - LEAST_GAIN):
            allowed.append(level)
            ahead = now
    return allowed[::-1]
