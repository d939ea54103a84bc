"""CPU time of pruning torchvision's ResNet-50 to half of its MACs, against Torch-Pruning on the same network in the
same run.

    python benchmarks/surgery_speed.py [--repeats 9]

Ours: structure, scores, plan and surgery, without the verification (which has no counterpart there). Theirs:
dependency graph and pruning of the network, by the same criterion (group L2). Runs alternate; the ratio is that of
the medians of CPU seconds on one thread. Needs torchvision and torch-pruning (`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tvshim  # noqa: F401  (before anything imports torchvision)

# isort: split
import torch
import torch_pruning
import torchvision
from torch import nn

import secateur as sc

RESULT = Path(__file__).parent / "results" / "surgery_speed.json"


def ours(model: nn.Module, image: torch.Tensor) -> nn.Module:
    structure = sc.trace(model, image, blocks=False)  # Torch-Pruning has no counterpart to these
    scores = sc.score(model, structure, criterion="l2")
    return sc.shrink(model, sc.allocate(structure, scores, {"macs": 0.5}))


def theirs(model: nn.Module, image: torch.Tensor) -> nn.Module:
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    # A ratio of 0.3 of the channels halves the MACs of this network.
    pruner = torch_pruning.pruner.BasePruner(
        model, image, importance=importance, pruning_ratio=0.3, ignored_layers=[model.fc]
    )
    pruner.step()
    return model


def cpu_seconds(prune: Callable[[nn.Module, torch.Tensor], nn.Module], image: torch.Tensor) -> float:
    model = torchvision.models.resnet50(weights=None).eval()
    start = time.process_time()
    prune(model, image)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    image = torch.randn(1, 3, 224, 224)
    for warm_up in (ours, theirs):
        cpu_seconds(warm_up, image)
    pairs = [(cpu_seconds(ours, image), cpu_seconds(theirs, image)) for _ in range(repeats)]
    mine, other = (sorted(times) for times in zip(*pairs, strict=True))
    result = {
        "network": "torchvision:resnet50",
        "budget": "macs=0.5",
        "repeats": repeats,
        "secateur_cpu_s": {"median": statistics.median(mine), "min": mine[0], "max": mine[-1]},
        "torch_pruning_cpu_s": {"median": statistics.median(other), "min": other[0], "max": other[-1]},
        "ratio": statistics.median(mine) / statistics.median(other),
        "torch_pruning": version("torch-pruning"),
        "torch": torch.__version__,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
