"""Whether one network is faster than another: both measured in turn, so that what slows the machine slows both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from secateur.cost.latency import batch_of, once_ms, quartiles
from secateur.structure.capture import call_model, normalise_inputs
from secateur.structure.modes import eval_mode

LEAST_PAIRS, MOST_PAIRS, ENOUGH_MS = 15, 60, 2000.0
"""Pairs are measured until there are enough, or until they have taken long enough."""
CURE = "round_to='auto' keeps only widths that are faster here, budget latency=... asks for time itself"


@dataclass(frozen=True)
class Speed:
    """Times of two networks in turn, and how often faster the second one is, pair by pair."""

    before: Mapping[str, float | int]
    after: Mapping[str, float | int]
    """What `measure_latency` finds, and `speedup` with `speedup_iqr`."""
    low: float
    speedup: float
    high: float
    """Quartiles of the ratios."""

    def said(self, *, macs_ratio: float) -> str:
        """In words; where the second one is not faster, beside how many times fewer multiply-accumulates it has."""
        place = f"here, with {_counted(self.after['threads'], 'thread')} and batch {self.after['batch']}"
        spread = f"{self.speedup:.2f} times as fast as before {place} (quartiles {self.low:.2f} to {self.high:.2f})"
        if self.low > 1:
            return spread
        if macs_ratio <= 1:
            return f"not clearly faster: {spread}; zeros save no time where operators are dense"
        return f"not clearly faster: {spread}, with {macs_ratio:.2f} times fewer multiply-accumulates; {CURE}"


def compare_latency(
    before: nn.Module,
    after: nn.Module,
    example_inputs: Any,
    *,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Measure one eval-mode forward of either network in turn, the order swapped from pair to pair.

    example_inputs: a tensor, a tuple of positional or a dict of keyword inputs. clock: seconds. The networks come back
    in the modes they were in.
    """
    inputs = normalise_inputs(example_inputs)
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad(), eval_mode(before, after):
        for model in (before, after):
            for _ in range(warmup):
                call_model(model, inputs)
        while len(times[0]) < LEAST_PAIRS or (len(times[0]) < MOST_PAIRS and sum(map(sum, times)) < ENOUGH_MS):
            pair = [(before, times[0]), (after, times[1])]
            for model, taken in pair if len(times[0]) % 2 == 0 else reversed(pair):
                taken.append(once_ms(partial(call_model, model, inputs), clock))
    low, middle, high = quartiles([b / a for b, a in zip(*times, strict=True)])
    about = {"threads": torch.get_num_threads(), "batch": batch_of(inputs)}
    own, other = (_latency(taken) for taken in times)
    return Speed(
        {**own, "speedup": 1.0, **about},
        {**other, "speedup": middle, "speedup_iqr": high - low, **about},
        low,
        middle,
        high,
    )


def _latency(times_ms: list[float]) -> dict[str, float]:
    low, middle, high = quartiles(times_ms)
    return {"latency_ms": middle, "iqr_ms": high - low}


def _counted(count: float, thing: str) -> str:
    return f"{count:.0f} {thing}{'' if count == 1 else 's'}"
