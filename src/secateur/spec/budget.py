"""Budgets: what the result may cost at most, in the unit that the user names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secateur.spec.errors import BudgetError, nearest

LATENCY_MS = "latency_ms"
"""The one cost that is measured, on the device that the model is on."""


@dataclass(frozen=True)
class Unit:
    """A unit that a budget can be given in."""

    name: str
    cost: str
    """Key in `Structure.costs`; or `latency_ms`, which is measured."""
    fraction: bool
    """Whether values are the share of the original that is kept (else an absolute ceiling)."""
    description: str


UNITS: Mapping[str, Unit] = {
    unit.name: unit
    for unit in (
        Unit("channels", "channels", True, "share of the prunable channels (units of the chosen axes) that is kept"),
        Unit("params", "params", True, "share of the parameters that is kept"),
        Unit("macs", "macs", True, "share of the multiply-accumulates of one forward that is kept"),
        Unit("activations", "activation_bytes", True, "share of the bytes of intermediate results that is kept"),
        Unit("latency", LATENCY_MS, True, "share of the time of one forward, as measured here, that is kept"),
        Unit("channel_count", "channels", False, "number of prunable channels, at most"),
        Unit("param_count", "params", False, "number of parameters, at most"),
        Unit("mac_count", "macs", False, "multiply-accumulates of one forward of the example inputs, at most"),
        Unit("size_bytes", "size_bytes", False, "bytes of parameters and buffers, at most"),
        Unit("activation_bytes", "activation_bytes", False, "bytes of intermediate results of one forward, at most"),
        Unit(
            "latency_ms",
            LATENCY_MS,
            False,
            "milliseconds of one forward of the example inputs, as measured here, at most",
        ),
    )
}

SPARSITY = "sparsity"
"""Share of the weights that is removed; only for element granularities."""


@dataclass(frozen=True)
class Budget:
    """One ceiling: `Budget("macs", 0.5)` keeps at most half of the multiply-accumulates."""

    unit: str
    value: float

    def __post_init__(self) -> None:
        if self.unit == SPARSITY:
            if not 0 <= self.value < 1:
                raise BudgetError(f"budget sparsity={self.value}: the share of removed weights must be in [0, 1)")
            return
        unit = UNITS.get(self.unit)
        if unit is None:
            raise BudgetError(f"unknown budget unit {self.unit!r}; did you mean: {nearest(self.unit, list(UNITS))}?")
        if unit.fraction and not 0 < self.value <= 1:
            raise BudgetError(
                f"budget {self.unit}={self.value}: a fraction is what is kept and must be in (0, 1]; "
                f"for an absolute ceiling use one of {', '.join(u.name for u in UNITS.values() if not u.fraction)}"
            )
        if not self.value > 0:
            raise BudgetError(f"budget {self.unit}={self.value}: must be positive")


Budgets = Budget | Mapping[str, float] | str | Sequence[str | Budget]
"""What functions take for a budget: `{"macs": 0.5}`, `"macs=0.5"`, a list of such texts, or budgets."""


def parse_budgets(value: Budgets) -> tuple[Budget, ...]:
    """Budgets from `{"macs": 0.5}`, `"macs=0.5"`, a list of such texts, or budgets."""
    if isinstance(value, Budget):
        return (value,)
    if isinstance(value, Mapping):
        made = tuple(Budget(unit, float(ceiling)) for unit, ceiling in value.items())
    elif isinstance(value, str):
        made = tuple(_parse(text) for text in value.split(","))
    else:
        made = tuple(item if isinstance(item, Budget) else _parse(item) for item in value)
    if not made:
        raise BudgetError("no budget given; name one, for example macs=0.5")
    return made


def _parse(text: str) -> Budget:
    unit, _, number = text.strip().partition("=")
    try:
        return Budget(unit.strip(), float(number))
    except ValueError as error:
        if isinstance(error, BudgetError):
            raise
        problem = "a budget is UNIT=VALUE, for example macs=0.5"
        raise BudgetError(f"cannot read budget {text!r}: {problem}") from error
