"""How the CPU time of trace and surgery grows with the depth of a network.

    python benchmarks/scaling.py

Stacks of 12 to 96 blocks of three kinds: convolutions with shortcuts, transformer blocks of `torch.nn`, and attention
and gated MLP written by hand. The exponent is the slope of log(seconds) over log(operators); 1 is linear. Writes
results/scaling.json.
"""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import secateur as sc
from secateur.structure.capture import capture, normalise_inputs

RESULT = Path(__file__).parent / "results" / "scaling.json"
DEPTHS = (12, 24, 48, 96)
REPEATS = 3


class Shortcut(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


class Gated(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(width, 96), nn.Linear(width, 96), nn.Linear(96, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        q, k, v = (layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        y = self.second(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def convolutions(depth: int) -> tuple[nn.Module, Any]:
    blocks = [Shortcut(16) for _ in range(depth)]
    model = nn.Sequential(nn.Conv2d(3, 16, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return model.eval(), torch.randn(1, 3, 12, 12)


def encoder(depth: int) -> tuple[nn.Module, Any]:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    stack = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    return nn.Sequential(nn.Linear(5, 32), stack, nn.Linear(32, 3)).eval(), torch.randn(1, 9, 5)


def decoder(depth: int) -> tuple[nn.Module, Any]:
    blocks = [Gated(32, 4) for _ in range(depth)]
    return nn.Sequential(nn.Linear(5, 32), *blocks, nn.Linear(32, 3)).eval(), torch.randn(1, 9, 5)


def measure(build: Callable[[int], tuple[nn.Module, Any]]) -> dict[str, Any]:
    rows: list[dict[str, float]] = []
    for depth in DEPTHS:
        model, inputs = build(depth)
        operators = len(capture(model, normalise_inputs(inputs)).ops)
        seconds = min(_cpu_seconds(model, inputs) for _ in range(REPEATS))
        rows.append(
            {"blocks": depth, "operators": operators, "cpu_s": seconds, "us_per_operator": 1e6 * seconds / operators}
        )
    logs = [(math.log(row["operators"]), math.log(row["cpu_s"])) for row in rows]
    slope = np.polyfit(*zip(*logs, strict=True), 1)[0]
    return {"rows": rows, "exponent": float(slope)}


def _cpu_seconds(model: nn.Module, inputs: Any) -> float:
    gc.collect()
    start = time.process_time()
    structure = sc.trace(model, inputs)
    scores = sc.score(model, structure, criterion="l2")
    sc.shrink(model, sc.allocate(structure, scores, {"channels": 0.5}))
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    _cpu_seconds(*decoder(2))  # imports and first calls
    found = {build.__name__: measure(build) for build in (convolutions, encoder, decoder)}
    RESULT.write_text(json.dumps({"torch": torch.__version__, "stacks": found}, indent=1) + "\n")
    for name, result in found.items():
        print(name, f"exponent {result['exponent']:.2f}")
        for row in result["rows"]:
            print(
                f"  {row['blocks']:3} blocks {row['operators']:6} operators {row['cpu_s']:.3f} s "
                f"{row['us_per_operator']:.0f} us each"
            )


if __name__ == "__main__":
    main()
