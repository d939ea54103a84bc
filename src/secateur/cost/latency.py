"""Measured latency of one forward."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn

from secateur.structure.capture import call_model, normalise_inputs
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
        times_ms = [_once(model, inputs) for _ in range(repeats)]
    quartiles = statistics.quantiles(times_ms, n=4) if len(times_ms) > 1 else [times_ms[0]] * 3
    leaves = inputs.values() if isinstance(inputs, dict) else inputs
    first = next((leaf for leaf in leaves if isinstance(leaf, torch.Tensor)), None)
    return {
        "latency_ms": quartiles[1],
        "iqr_ms": quartiles[2] - quartiles[0],
        "threads": torch.get_num_threads(),
        "batch": int(first.shape[0]) if first is not None and first.dim() else 1,
    }


def _once(model: nn.Module, inputs: Any) -> float:
    _wait()
    start = time.perf_counter()
    call_model(model, inputs)
    _wait()
    return (time.perf_counter() - start) * 1e3


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
