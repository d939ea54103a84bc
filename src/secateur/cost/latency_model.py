"""The time of one forward as a function of the axis sizes, from operators that were timed alone.

A table of operator times, summed over the network and calibrated against the whole, is how NetAdapt (ECCV 2018) and
HALP (2022) predict latency. Two things differ here. Operators, not layers, are timed, as the captured forward has them.
And the calibration has two numbers, a factor (caches are colder in a network than where one operator runs over and
over) and a constant (what Python takes between operators), from the network and from one of a quarter of its widths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from secateur.cost.operators import Operator, timed_operators
from secateur.cost.stairs import COUNTED, level_of
from secateur.cost.stopwatch import Stopwatch, Timer
from secateur.cost.table import LatencyTable, table_of
from secateur.spec import Plan, Structure
from secateur.structure import Traced, trace_program
from secateur.structure.capture import Inputs, call_model, normalise_inputs
from secateur.structure.clone import named_tensors
from secateur.structure.modes import eval_mode
from secateur.surgery import shrink

Sizes = npt.NDArray[np.int64]

NARROW = 4
"""What the widths of the second network of the calibration are divided by."""


@dataclass(frozen=True)
class Calibration:
    """A forward takes `factor` times the sum of its operators, and `constant_ms`."""

    factor: float = 1.0
    constant_ms: float = 0.0


class LatencyModel:
    """Milliseconds of one forward at given axis sizes, an array in the order of `names`.

    Operators are timed when their sizes are first asked for; the same sizes always give the same time.
    """

    def __init__(
        self,
        structure: Structure,
        operators: Sequence[Operator],
        timer: Timer,
        table: LatencyTable | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.names: tuple[str, ...] = tuple(axis.name for axis in structure.axes)
        self.full: Sizes = np.array([axis.size for axis in structure.axes], dtype=np.int64)
        self.table = table or LatencyTable()
        self.calibration = calibration or Calibration()
        self._untimed: set[str] = set()
        self._axes = structure.axes
        self._operators = operators
        self._timer = timer
        number = {name: position for position, name in enumerate(self.names)}
        self._reads = [
            [number[name] for name in (*operator.axes, *([operator.home] if operator.home else []))]
            for operator in operators
        ]
        self._readers: list[list[int]] = [[] for _ in self.names]
        for operator, axes in enumerate(self._reads):
            for axis in axes:
                self._readers[axis].append(operator)
        self._known: list[dict[tuple[int, ...], float]] = [{} for _ in operators]
        self._at: Sizes | None = None
        self._times_ms = np.zeros(len(operators))

    def __call__(self, sizes: Sizes) -> float:
        """Milliseconds at these sizes."""
        return self.calibration.factor * self.operators_ms(sizes) + self.calibration.constant_ms

    def operators_ms(self, sizes: Sizes) -> float:
        """Sum over the operators; those are looked up again whose axes have changed since the last call."""
        everything = range(len(self._operators))
        for operator in everything if self._at is None else self._touching(np.flatnonzero(sizes != self._at)):
            self._times_ms[operator] = self._time_ms(operator, sizes)
        self._at = sizes.copy()
        return float(self._times_ms.sum())

    @property
    def notes(self) -> tuple[str, ...]:
        """What the predictions leave out."""
        names = ", ".join(sorted(self._untimed))
        return (f"the time of operators that cannot run alone is not predicted: {names}",) if names else ()

    @property
    def key(self) -> str:
        """The same for networks of the same operators."""
        sizes = dict(zip(self.names, self.full.tolist(), strict=True))
        calls = "\n".join(operator.at(sizes).key for operator in self._operators)
        return sha256(calls.encode()).hexdigest()

    def time_of(self, axes: Sequence[str], sizes: Sizes) -> float:
        """Milliseconds of the operators alone in which one of these axes occurs."""
        numbers = [self.names.index(axis) for axis in axes]
        return sum(self._time_ms(operator, sizes) for operator in self._touching(numbers))

    def at(self, sizes: Mapping[str, int]) -> float:
        """Milliseconds at sizes given by name; axes that are not mentioned have their full size."""
        return self(
            np.array([sizes.get(name, full) for name, full in zip(self.names, self.full.tolist(), strict=True)])
        )

    def _touching(self, axes: Sequence[int] | Sizes) -> list[int]:
        return sorted({operator for axis in axes for operator in self._readers[axis]})

    def _time_ms(self, operator: int, sizes: Sizes) -> float:
        levels = tuple(level_of(self._axes[axis], int(sizes[axis])) for axis in self._reads[operator])
        known = self._known[operator]
        if levels not in known:
            named = {self.names[axis]: level for axis, level in zip(self._reads[operator], levels, strict=True)}
            known[levels] = self._measured_ms(self._operators[operator], named)
        return known[levels]

    def _measured_ms(self, operator: Operator, sizes: Mapping[str, int]) -> float:
        if any(sizes[axis] == 0 for axis in sizes):
            return 0.0  # its block is gone
        try:
            return self._timed(operator, sizes)
        except Exception:  # an operator may refuse anything: sizes that it holds in another argument, say
            return self._in_proportion(operator, sizes)

    def _timed(self, operator: Operator, sizes: Mapping[str, int]) -> float:
        case = operator.at(sizes)
        return self.table.time_ms(case.key, lambda: self._timer(case))

    def _in_proportion(self, operator: Operator, sizes: Mapping[str, int]) -> float:
        """From the time at full sizes, by the numbers that it reads and writes."""
        full = dict(zip(self.names, self.full.tolist(), strict=True))
        try:
            whole_ms = self._timed(operator, full)
        except Exception:
            self._untimed.add(operator.name)
            return 0.0
        return whole_ms * operator.elements(sizes) / max(1, operator.elements(full))


def latency_model(
    model: nn.Module, example_inputs: Any, *, traced: Traced | None = None, table: LatencyTable | None = None
) -> LatencyModel:
    """The latency of this model, for these inputs on the device that it is on, for every size of its axes.

    example_inputs: a tensor, a tuple of positional or a dict of keyword inputs. table: where times are kept; the one of
    this device when not given, under `$XDG_CACHE_HOME` or `~/.cache`, in `secateur/latency`. Call `table.save()` on it
    to keep what was measured. Raises TraceError when the model's own forward fails.
    """
    inputs = normalise_inputs(example_inputs)
    traced = traced or trace_program(model, inputs, blocks=False)
    device = next((found.tensor.device for found in named_tensors(model)), torch.device("cpu"))
    table = table or table_of(device)
    stopwatch = Stopwatch(device)
    stopwatch.unit_ms = table.time_ms("yardstick", stopwatch.quickest_unit_ms)
    made = LatencyModel(traced.structure, timed_operators(traced), stopwatch, table)
    made.calibration = _calibrated(made, model, traced.structure, inputs, stopwatch)
    return made


def _calibrated(
    made: LatencyModel, model: nn.Module, structure: Structure, inputs: Inputs, stopwatch: Stopwatch
) -> Calibration:
    """From the time of the network, and of the narrow one where there is such."""
    key, plan = made.key, narrowed(structure)
    whole = partial(call_model, model, inputs)
    with torch.no_grad(), eval_mode(model):
        whole_ms = made.table.time_ms(f"whole {key}", lambda: stopwatch.time_whole(whole))
        sum_ms = made.operators_ms(made.full)
        alone = Calibration(whole_ms / sum_ms if sum_ms > 0 else 1.0)
        try:
            share = made.table.time_ms(
                f"narrow {key}", lambda: stopwatch.share(partial(call_model, shrink(model, plan), inputs), whole)
            )
        except Exception:  # code that holds a size where nobody sees it: the plan that is made later finds out about it
            return alone
    narrow_sum_ms = made.operators_ms(np.array([plan.sizes[name] for name in made.names], dtype=np.int64))
    if share >= 1 or narrow_sum_ms >= sum_ms:
        return alone
    factor = whole_ms * (1 - share) / (sum_ms - narrow_sum_ms)
    constant_ms = whole_ms - factor * sum_ms
    return Calibration(factor, constant_ms) if constant_ms > 0 else alone


def narrowed(structure: Structure) -> Plan:
    """The first quarter of every axis that can be cut by itself or with those that it is tied to."""
    free = {
        axis.name
        for axis in structure.axes
        if axis.chosen
        and axis.within is None
        and axis.role not in COUNTED
        and axis.name not in structure.within.values()
    }
    kept: dict[str, tuple[int, ...]] = {}
    for axis in structure.axes:
        members = structure.tied.get(axis.name, ((axis.name, 1),))
        if axis.name in free and all(name in free for name, _ in members):
            multiple = dict(members)[axis.name]
            kept[axis.name] = tuple(range(multiple * -(-axis.size // multiple // NARROW)))
    return Plan(structure, kept)
