"""Multiples that kept counts are rounded to, by number or by the kind of device that they are for."""

from __future__ import annotations

from collections.abc import Mapping

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


def multiple_of(round_to: int | str) -> int:
    """The multiple that a number or the name of a profile stands for; raises BudgetError for any other."""
    if isinstance(round_to, str) and not round_to.isdecimal():
        if round_to not in PROFILES:
            known = nearest(round_to, list(PROFILES))
            raise BudgetError(f"unknown rounding {round_to!r}: give a number, or one of: {known}")
        return PROFILES[round_to]
    multiple = int(round_to)
    if multiple < 1:
        raise BudgetError(f"round_to must be at least 1, got {multiple}")
    return multiple
