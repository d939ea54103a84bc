"""Peak memory of `prune` against the size of the model.

    python benchmarks/memory.py

For each network, in a process of its own: after imports and a small prune, the resident memory is the baseline. Then
the model is built and run once, and the peak of that is noted; then the peak is set back and the model is pruned to
half of its channels. The ratio is (peak during prune - baseline) / (bytes of the model + bytes of its activations),
where the model is parameters and buffers and the activations are all results of one forward of the example inputs
(`activation_bytes`). What is returned, the smaller model beside the original, is part of the peak. Linux alone
(/proc). Needs torchvision and transformers.
"""

from __future__ import annotations

import argparse
import gc
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tvshim  # noqa: F401  (before anything imports torchvision)

# isort: split
import torch
import torchvision
from isolation import isolated
from runs import write_record
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import secateur as sc
from secateur.bench.memory import NOW, PEAK, reset_peak, status
from secateur.structure.capture import call_model, normalise_inputs

RESULT = Path(__file__).parent / "results" / "memory.json"
TIMEOUT_S = 600
TARGET = 1.5


def _torchvision(name: str) -> tuple[nn.Module, Any]:
    return torchvision.models.get_model(name, weights=None), torch.randn(1, 3, 224, 224)


def _perceptron() -> tuple[nn.Module, Any]:
    layers = [nn.Linear(1024, 8192), nn.ReLU(), nn.Linear(8192, 8192), nn.ReLU(), nn.Linear(8192, 1024)]
    return nn.Sequential(*layers), torch.randn(1, 1024)


def _llama() -> tuple[nn.Module, Any]:
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=9,
        num_attention_heads=16,
        num_key_value_heads=8,
        max_position_embeddings=256,
    )
    return LlamaForCausalLM(config), {"input_ids": torch.randint(0, 8192, (1, 64)), "use_cache": False}


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "torchvision:resnet50": partial(_torchvision, "resnet50"),
    "torchvision:vit_b_16": partial(_torchvision, "vit_b_16"),
    "perceptron 1024-8192-8192-1024": _perceptron,
    "llama, 9 layers": _llama,
}


def measure(build: Callable[[], tuple[nn.Module, Any]], *, verify: bool) -> Iterator[dict[str, Any]]:
    """Baseline, model and peaks, in bytes."""
    sc.prune(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)), torch.randn(1, 4), budget={"channels": 0.5})
    gc.collect()
    baseline = status(NOW)
    model, inputs = build()
    model.eval()
    size = sum(tensor.numel() * tensor.itemsize for tensor in [*model.parameters(), *model.buffers()])
    reset_peak()
    with torch.no_grad():
        call_model(model, normalise_inputs(inputs))
    forward = status(PEAK) - baseline
    gc.collect()
    reset_peak()
    result = sc.prune(model, inputs, budget={"channels": 0.5}, verify=verify)
    peak = status(PEAK) - baseline
    activations = int(result.before["activation_bytes"])
    yield {
        "model_bytes": size,
        "activation_bytes": activations,
        "forward_peak_bytes": forward,
        "prune_peak_bytes": peak,
        "result_bytes": int(result.after["size_bytes"]),
        "ratio": peak / (size + activations),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = []
    for name, build in NETWORKS.items():
        for verify in (True, False):
            rows.append(
                {"network": name, "verify": verify, **isolated(partial(measure, build, verify=verify), TIMEOUT_S)}
            )
            print(rows[-1], flush=True)
    write_record(RESULT, {"torch": torch.__version__, "target": TARGET, "rows": rows})


if __name__ == "__main__":
    main()
