"""Measured latency of one forward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from secateur.structure.capture import Inputs, call_model, normalise_inputs
from secateur.structure.modes import eval_mode


def measure_latency(
    model: nn.Module, example_inputs: Any, *, repeats: int = 30, warmup: int = 5
) -> dict[str, float | int]:
    """Median and interquartile range in milliseconds of one eval-mode forward, with the threads and batch it was
    taken at.

    On a GPU the clock stops when the device is done. The model comes back in the mode it was in.
    """
    inputs = normalise_inputs(example_inputs)
    with torch.no_grad(), eval_mode(model):
        for _ in range(warmup):
            call_model(model, inputs)
        times_ms = [once_ms(lambda: call_model(model, inputs)) for _ in range(repeats)]
    low, middle, high = quartiles(times_ms)
    return {
        "latency_ms": middle,
        "iqr_ms": high - low,
        "threads": torch.get_num_threads(),
        "batch": batch_of(inputs),
    }


def batch_of(inputs: Inputs) -> int:
    """The first dimension of the first tensor."""
    leaves = inputs.values() if isinstance(inputs, dict) else inputs
    first = next((leaf for leaf in leaves if isinstance(leaf, torch.Tensor)), None)
    return int(first.shape[0]) if first is not None and first.dim() else 1


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The middle one between the outer two; of one value three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def once_ms(forward: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of one forward, until the device is done; the clock gives seconds."""
    _wait()
    start = clock()
    forward()
    _wait()
    return (clock() - start) * 1e3


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
