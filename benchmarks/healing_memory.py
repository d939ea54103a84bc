"""Peak memory of pruning with healing, against the model and the activations of one of its blocks.

    python benchmarks/healing_memory.py

Each network in a process of its own, whose resident memory, calibration data included, is the baseline. The ratio is
(peak during `prune` - baseline) / (bytes of the model + bytes of all results within the block that makes the most, over
all calibration samples). Both networks, dense and pruned, are alive while one is healed. Linux alone (/proc). Weights
and data are random: they do not matter for memory.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from isolation import isolated
from runs import write_record
from torch import nn

import secateur as sc
from secateur.bench.memory import NOW, PEAK, reset_peak, status
from secateur.models import build_model, example_inputs
from secateur.recover.segments import find_segments
from secateur.structure.capture import capture_with_values, normalise_inputs

RESULT = Path(__file__).parent / "results" / "healing_memory.json"
TIMEOUT_S = 1800
TARGET = 2.0
NETWORKS = {"lenet5": 2048, "resnet20": 2048}
"""And how many samples calibrate."""


def measure(name: str, samples: int) -> Iterator[dict[str, Any]]:
    sc.prune(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)), torch.randn(1, 4), budget={"channels": 0.5})
    model, (example,) = build_model(name).eval(), example_inputs(name)
    data = [torch.randn(128, *example.shape[1:]) for _ in range(samples // 128)]
    gc.collect()
    baseline = status(NOW)
    reset_peak()
    sc.prune(model, example, budget={"macs": 0.5}, data=data)
    peak = status(PEAK) - baseline
    size = sum(tensor.numel() * tensor.itemsize for tensor in [*model.parameters(), *model.buffers()])
    block = samples * _block_bytes(model, example)
    yield {"model_bytes": size, "block_bytes": block, "peak_bytes": peak, "ratio": peak / (size + block)}


def _block_bytes(model: nn.Module, example: torch.Tensor) -> int:
    """All results within the block that makes the most, of one sample."""
    program = capture_with_values(model, normalise_inputs(example[:1]))
    weights = {name for name, parameter in model.named_parameters() if parameter.dim() > 1}
    segments = find_segments(program, {name for name, _ in model.named_parameters()}, weights)
    return 4 * max(
        sum(prod(program.shapes[number]) for op in program.ops[one.start : one.stop] for number in op.outputs)
        for one in segments
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, samples in NETWORKS.items():
        rows.append({"network": name, "samples": samples, **isolated(partial(measure, name, samples), TIMEOUT_S)})
        print(rows[-1], flush=True)
    write_record(RESULT, {"torch": torch.__version__, "target": TARGET, "rows": rows})


if __name__ == "__main__":
    main()
