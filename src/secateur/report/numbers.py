"""Numbers as people read them, and what a change of each metric means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

NOTHING = "–"
LARGEST = 1e300
"""Beyond this a number of a record is as good as none."""
PREFIXES = ("", "k", "M", "G", "T", "P", "E")

Direction = Literal["fewer", "less", "smaller", "faster"]


def number(value: Any) -> float | None:
    """A finite number of a record; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and abs(found) < LARGEST else None


def exact(value: Any) -> str:
    """Every digit of a whole number, seven of another."""
    found = number(value)
    if found is None:
        return NOTHING
    return f"{found:,.0f}" if found == round(found) and abs(found) < 1e15 else f"{found:.7g}"


def count(value: float) -> str:
    """Four digits, and k, M, G, ...; below ten thousand all of them."""
    if abs(value) < 10_000:
        return f"{value:,.0f}" if value == round(value) else f"{value:,.4g}"
    power = min(int(math.log10(abs(value)) // 3), len(PREFIXES) - 1)
    return f"{value / 1000**power:.4g} {PREFIXES[power]}"


def size(value: float) -> str:
    """Bytes, in thousands."""
    shown = count(value)
    return f"{shown}B" if shown[-1].isalpha() else f"{shown} B"


def percent(value: float) -> str:
    """A share of one, as percents with two digits after the point."""
    return f"{100 * value:.2f} %"


def milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def times(value: float) -> str:
    return f"{value:.3g}×"


def plain(value: float) -> str:
    return f"{value:,.4g}"


@dataclass(frozen=True)
class Metric:
    """How a metric is called and written."""

    label: str
    shown: Callable[[float], str]
    direction: Direction | None = None
    """Of a cost: the word for a smaller one."""

    def change(self, before: float, after: float) -> str:
        """What became of it, in words; empty where that cannot be said."""
        if self.direction is not None:
            return _ratio(before, after, self.direction) if before > 0 and after > 0 else ""
        if self.shown is percent:
            points = 100 * (after - before)
            return "unchanged" if abs(points) < 0.005 else f"{points:+.2f} points".replace("-", "−")
        if abs(after - before) < 5e-5:
            return "unchanged"
        return f"{after - before:{'+.4f' if abs(after - before) < 10 else '+,.4g'}}".replace("-", "−")


def _ratio(before: float, after: float, direction: Direction) -> str:
    opposite = {"fewer": "more", "less": "more", "smaller": "larger", "faster": "slower"}[direction]
    ratio = before / after
    if 0.995 < ratio < 1.005:
        return "unchanged"
    return f"{_rounded(ratio)}× {direction}" if ratio > 1 else f"{_rounded(1 / ratio)}× {opposite}"


def _rounded(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}" if ratio < 1.1 else f"{ratio:.2g}"


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("Accuracy", percent),
    "agreement": Metric("Agreement with the teacher", percent),
    "perplexity": Metric("Perplexity", plain),
    "loss": Metric("Loss", plain),
    "macs": Metric("Multiply-accumulates", count, "fewer"),
    "param_count": Metric("Parameters", count, "fewer"),
    "params_left": Metric("Parameters that are not zero", count, "fewer"),
    "size_bytes": Metric("Size", size, "smaller"),
    "file_bytes": Metric("File", size, "smaller"),
    "packed_bytes": Metric("File, packed", size, "smaller"),
    "activation_bytes": Metric("Activations", size, "smaller"),
    "latency_ms": Metric("Time of one forward", milliseconds, "faster"),
    "speedup": Metric("Speed-up", times),
    "sparsity": Metric("Zeros among the weights", percent),
    "link_bytes": Metric("Between devices, a sample", size, "fewer"),
}
"""In the order in which tables show them."""


def measured(values: Mapping[str, Any]) -> dict[str, float]:
    """The metrics among these values that are numbers, in the order of tables."""
    found = {key: number(values.get(key)) for key in METRICS}
    return {key: value for key, value in found.items() if value is not None}
