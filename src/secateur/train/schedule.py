"""Learning rates over the steps of a run, as a share of the largest."""

from __future__ import annotations

import math

WARM_UP = 0.3
"""Share of a one-cycle run in which the rate rises."""
START = 0.04
"""Rate of a one-cycle run at its first step."""
MILESTONES = (0.5, 0.75)
"""Shares of a `step` run after which the rate falls to a tenth (He et al. 2016, section 4.2)."""


def rate(schedule: str, step: int, steps: int) -> float:
    """Share of the largest learning rate at `step` of `0..steps-1`: in (0, 1]."""
    if schedule == "constant":
        return 1.0
    if schedule == "step":
        return 0.1 ** sum(step >= milestone * steps for milestone in MILESTONES)
    rising = int(WARM_UP * steps) if schedule == "one-cycle" else 0
    if step < rising:
        return START + (1 - START) * step / rising
    return _cosine((step - rising) / (steps - rising))


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2
