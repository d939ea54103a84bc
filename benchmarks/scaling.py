"""CPU seconds of structure and surgery against the depth of a network: stacks of 12, 24, 48 and 96 blocks.

    python benchmarks/scaling.py [--repeats 3]

The exponent is the slope of a least-squares line through the logarithms of blocks and seconds: 1 is linear, 2 is
quadratic. Each size takes the least of some runs on one thread. Widths are small, so that what is measured is the work
per operator and not memory. Needs torchvision and transformers.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import pstats
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tvshim  # noqa: F401  (before anything imports torchvision)

# isort: split
import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.resnet import BasicBlock, ResNet
from transformers import LlamaConfig, LlamaForCausalLM

import secateur as sc
from secateur.structure.capture import normalise_inputs
from secateur.structure.trace import trace_program

RESULT = Path(__file__).parent / "results" / "scaling.json"
BLOCKS = (12, 24, 48, 96)
STAGES = ("trace_s", "trace_with_blocks_s", "cut_s")


def vision_transformer(blocks: int) -> tuple[nn.Module, Any]:
    return VisionTransformer(32, 8, blocks, 4, 32, 64, num_classes=10).eval(), torch.randn(1, 3, 32, 32)


def residual(blocks: int) -> tuple[nn.Module, Any]:
    return ResNet(BasicBlock, [blocks // 4] * 4, num_classes=10).eval(), torch.randn(1, 3, 32, 32)


def llama(blocks: int) -> tuple[nn.Module, Any]:
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    return LlamaForCausalLM(config).eval(), {"input_ids": torch.randint(0, 97, (1, 8)), "use_cache": False}


STACKS: dict[str, Callable[[int], tuple[nn.Module, Any]]] = {
    "vision transformer": vision_transformer,
    "residual": residual,
    "llama": llama,
}


def seconds(model: nn.Module, inputs: Any) -> dict[str, float]:
    """CPU seconds of the structure, of the same with the search for blocks that can leave, and of scores, plan and
    surgery."""
    given, marks = normalise_inputs(inputs), [time.process_time()]
    traced = trace_program(model, given, blocks=False)
    marks.append(time.process_time())
    trace_program(model, given)
    marks.append(time.process_time())
    scores = sc.score(model, traced.structure, criterion="l2")
    sc.shrink(model, sc.allocate(traced.structure, scores, {"channels": 0.5}))
    marks.append(time.process_time())
    return dict(zip(STAGES, (after - before for before, after in pairwise(marks)), strict=True))


def measure(build: Callable[[int], tuple[nn.Module, Any]], repeats: int) -> dict[str, Any]:
    """Rows by depth, the exponent of each stage, and where the time of the deepest goes."""
    seconds(*build(4))
    rows = [_row(build, blocks, repeats) for blocks in BLOCKS]
    exponents = {stage: slope([row["blocks"] for row in rows], [row[stage] for row in rows]) for stage in STAGES}
    exponents["total_s"] = slope([row["blocks"] for row in rows], [row["total_s"] for row in rows])
    return {"rows": rows, "exponents": exponents, "profile": _profile(*build(BLOCKS[-1]))}


def _row(build: Callable[[int], tuple[nn.Module, Any]], blocks: int, repeats: int) -> dict[str, Any]:
    model, inputs = build(blocks)
    operators = len(trace_program(model, normalise_inputs(inputs), blocks=False).program.ops)
    runs = [seconds(model, inputs) for _ in range(repeats)]
    best = {stage: min(run[stage] for run in runs) for stage in STAGES}
    total = best["trace_s"] + best["cut_s"]
    return {
        "blocks": blocks,
        "operators": operators,
        **best,
        "total_s": total,
        "us_per_operator": 1e6 * total / operators,
    }


def slope(sizes: list[int], times: list[float]) -> float | None:
    """The least-squares exponent; None where a stage took no time."""
    if min(times) <= 0:
        return None
    points = [(math.log(size), math.log(taken)) for size, taken in zip(sizes, times, strict=True)]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def _profile(model: nn.Module, inputs: Any) -> list[str]:
    """The ten functions of ours that take most of the time by themselves."""
    profile = cProfile.Profile()
    profile.runcall(seconds, model, inputs)
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]
    own = [(values[2], key) for key, values in stats.items() if "secateur" in key[0]]
    return [
        f"{taken:.3f} s {Path(file).name}:{line} {name}" for taken, (file, line, name) in sorted(own, reverse=True)[:10]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    found = {name: measure(build, repeats) for name, build in STACKS.items()}
    temporary = RESULT.with_name(f".{RESULT.name}.part")
    temporary.write_text(json.dumps({"torch": torch.__version__, "stacks": found}, indent=1) + "\n")
    temporary.replace(RESULT)
    for name, stack in found.items():
        print(name, {key: value and round(value, 2) for key, value in stack["exponents"].items()})
        for row in stack["rows"]:
            print("  ", {key: round(value, 3) for key, value in row.items()})
        print("  ", *stack["profile"], sep="\n   ")


if __name__ == "__main__":
    main()
