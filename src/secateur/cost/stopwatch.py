"""How long something takes on a device, also on one that is busy with other things."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from secateur.cost.operators import Case

SAMPLE_MS = 0.2
"""What is timed at once: shorter runs are timed several in a row."""
LEAST_SAMPLES, MOST_SAMPLES, ENOUGH_MS = 5, 25, 10.0
"""Samples are taken until there are enough, or until they have taken long enough."""

UNITS_AT_ONCE = 3
"""Yardsticks between two samples."""

Timer = Callable[[Case], float]
"""From a call of an operator to milliseconds; raises what the operator raises where it cannot run alone."""


class Stopwatch:
    """Times runs against a yardstick, fixed work that is run between their samples: a machine that slows down for a
    while, because others use it, slows both alike. A time is the median share of the yardstick, times `unit_ms`.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        unit_ms: float = 1.0,
        clock: Callable[[], float] | None = None,
        yardstick: Callable[[], object] | None = None,
    ) -> None:
        self.device = device
        self.unit_ms = unit_ms
        """Milliseconds of a yardstick."""
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        self.clock = clock or (time.thread_time if alone else time.perf_counter)
        """Seconds. The CPU time of a lone thread does not count what the machine does besides."""
        matrix = torch.ones(128, 128, device=device)
        self._yardstick = yardstick or (lambda: matrix @ matrix)

    def quickest_unit_ms(self) -> float:
        """Milliseconds of a yardstick when nothing else is going on: the quickest of many."""
        return min(self._sample(self._yardstick, UNITS_AT_ONCE) for _ in range(500)) / UNITS_AT_ONCE

    def __call__(self, case: Case) -> float:
        """Milliseconds of one call of an operator."""
        with torch.inference_mode():
            return self.time(case.prepare(self.device))

    def time(self, run: Callable[[], object], *, least_samples: int = LEAST_SAMPLES) -> float:
        """Milliseconds of one run."""
        self._sample(run, 1)
        in_a_row = max(1, min(1000, round(SAMPLE_MS / max(self._sample(run, 1), 1e-4))))
        taken_ms: list[float] = []
        shares: list[float] = []
        while len(shares) < least_samples or (len(shares) < MOST_SAMPLES and sum(taken_ms) < ENOUGH_MS):
            before = self._sample(self._yardstick, UNITS_AT_ONCE)
            taken_ms.append(self._sample(run, in_a_row))
            shares.append(2 * taken_ms[-1] / (before + self._sample(self._yardstick, UNITS_AT_ONCE)))
        return statistics.median(shares) * UNITS_AT_ONCE * self.unit_ms / in_a_row

    def _sample(self, run: Callable[[], object], times: int) -> float:
        start = self.clock()
        for _ in range(times):
            run()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * (self.clock() - start)
