"""How long something takes on a device, also on one that is busy with other things."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from math import sqrt

import torch

from secateur.cost.operators import Case

SAMPLE_MS = 0.1
"""What is timed at once: shorter runs are timed several in a row."""
LEAST_SAMPLES = 5
SURE, ENOUGH_MS = 0.03, 15.0
"""Of one operator among many, samples are taken until the error of their median is such a share of it, or until they
have taken long enough."""
VERY_SURE, LONG_MS = 0.003, 1000.0
"""The same of a whole network."""

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
        in_a_row = self._in_a_row(self._yardstick)
        return min(self._sample(self._yardstick, in_a_row) for _ in range(2000)) / in_a_row

    def __call__(self, case: Case) -> float:
        """Milliseconds of one call of an operator."""
        with torch.inference_mode():
            return self.time(case.prepare(self.device))

    def time(self, run: Callable[[], object]) -> float:
        """Milliseconds of one run."""
        return self.share(run, self._yardstick, sure=SURE, enough_ms=ENOUGH_MS) * self.unit_ms

    def time_whole(self, run: Callable[[], object]) -> float:
        """Milliseconds of one run of a network, for which more samples are taken."""
        return self.share(run, self._yardstick) * self.unit_ms

    def share(
        self,
        run: Callable[[], object],
        other: Callable[[], object],
        *,
        sure: float = VERY_SURE,
        enough_ms: float = LONG_MS,
    ) -> float:
        """How many times as long one run takes as the other, the median over samples in turn."""
        own, others = self._in_a_row(run), self._in_a_row(other)
        shares: list[float] = []
        taken_ms = before = self._sample(other, others)
        while len(shares) < LEAST_SAMPLES or (taken_ms < enough_ms and not _sure(shares, sure)):
            sample, after = self._sample(run, own), self._sample(other, others)
            shares.append(2 * sample / (before + after))
            taken_ms += sample + after
            before = after
        return statistics.median(shares) * others / own

    def _in_a_row(self, run: Callable[[], object]) -> int:
        self._sample(run, 1)
        return max(1, min(1000, round(SAMPLE_MS / max(self._sample(run, 1), 1e-4))))

    def _sample(self, run: Callable[[], object], times: int) -> float:
        start = self.clock()
        for _ in range(times):
            run()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return 1e3 * (self.clock() - start)


def _sure(samples: list[float], error: float) -> bool:
    low, middle, high = statistics.quantiles(samples, n=4)
    return (high - low) / sqrt(len(samples)) < error * middle
