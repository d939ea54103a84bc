"""What devices may say to each other: so many bytes, or so much that a sample is through in time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from secateur.partition.timing import estimate
from secateur.spec import BudgetError

if TYPE_CHECKING:
    from secateur.partition.split import Split

LinkBudgets = float | Mapping[str, float]
"""By unit. A bare number is of `bytes`."""
LINK_UNITS = {
    "bytes": "share of the bytes between devices that still cross; above 1 as link_bytes",
    "link_bytes": "bytes of a sample between devices, at most",
    "latency": "share of the time of a sample that is kept, by estimate",
    "latency_ms": "milliseconds of a sample, by estimate, at most",
}


@dataclass(frozen=True)
class Limit:
    """The most that one sample may take."""

    bytes: float = math.inf
    seconds: float = math.inf

    def loosened(self, whole: Limit, share: float) -> Limit:
        """As far on the way from the whole to here that this share of the whole is gone."""
        return Limit(max((1 - share) * whole.bytes, self.bytes), max((1 - share) * whole.seconds, self.seconds))

    def share_of(self, whole: Limit) -> float:
        """Of bytes or of time, whichever is less."""
        pairs = ((self.bytes, whole.bytes), (self.seconds, whole.seconds))
        return min((own / every for own, every in pairs if every > 0), default=1.0)


def by_unit(budget: LinkBudgets) -> dict[str, float]:
    """Raises BudgetError for units that are none, and for values out of range."""
    given: dict[str, float] = dict(budget) if isinstance(budget, Mapping) else {"bytes": budget}
    if not given or set(given) - set(LINK_UNITS):
        raise BudgetError(
            f"budget of {', '.join(given) or 'nothing'} between devices: expected {' or '.join(LINK_UNITS)}"
        )
    for unit, value in given.items():
        if not 0 <= value < math.inf or (unit == "latency" and value > 1):
            raise BudgetError(f"budget {unit}={value} between devices: expected {LINK_UNITS[unit]}")
    return given


def wanted(split: Split, model: nn.Module, budget: LinkBudgets) -> Limit:
    """What a budget means for a network with these weights.

    Raises BudgetError for what is no budget, and for a share of the time of a network that cannot run, because what
    crosses has no link.
    """
    given = by_unit(budget)
    most, seconds = given.get("bytes", math.inf), given.get("latency_ms", math.inf) / 1e3
    if most <= 1:
        most *= split.traffic(model).total / split.arrangement.samples
    most = min(most, given.get("link_bytes", math.inf))
    if "latency" in given:
        seconds = min(seconds, given["latency"] * _seconds(split, model))
    return Limit(most, seconds)


def _seconds(split: Split, model: nn.Module) -> float:
    needs = split.needs(model)
    if split.traffic(model).bytes[split.topology.missing].any():
        raise BudgetError(
            "a share of the time that this network takes: some of what crosses has no link, so it takes for ever; "
            "give latency_ms, or bytes"
        )
    return estimate(split.arrangement, needs, split.topology, samples=1).critical
