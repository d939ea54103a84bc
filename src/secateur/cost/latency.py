"""Measured latency of one forward."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
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
        times_ms = [once_ms(model, inputs) for _ in range(repeats)]
    quartiles = statistics.quantiles(times_ms, n=4) if len(times_ms) > 1 else [times_ms[0]] * 3
    return {
        "latency_ms": quartiles[1],
        "iqr_ms": quartiles[2] - quartiles[0],
        "threads": torch.get_num_threads(),
        "batch": batch_of(inputs),
    }


def batch_of(inputs: Inputs) -> int:
    """The first dimension of the first tensor."""
    leaves = inputs.values() if isinstance(inputs, dict) else inputs
    first = next((leaf for leaf in leaves if isinstance(leaf, torch.Tensor)), None)
    return int(first.shape[0]) if first is not None and first.dim() else 1


def once_ms(model: nn.Module, inputs: Inputs, clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of one forward, until the device is done."""
    _wait()
    start = clock()
    call_model(model, inputs)
    _wait()
    return (clock() - start) * 1e3


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
