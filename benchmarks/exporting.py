"""Networks of twenty families, dense and with half of their multiply-accumulates, as ONNX files in ONNX Runtime.

    python benchmarks/exporting.py [--only PATTERN ...] [--rounds 31]

Each network (random weights) is pruned by `l2` to half of its multiply-accumulates, to widths that are multiples of 8
(ONNX Runtime computes in such blocks), or of less where that allows no half; both are exported. What is asked of each:
the file differs from the network by at most 1e-4 of the largest output, at the batch of the example and at another; the
file is smaller than that of the dense network; and a forward of batch 1 takes no longer, the median of paired rounds in
which both run in turn, on one thread. Times are CPU times, because other work on the machine is not to count. Needs the
extras `models` and `export`. Results go to benchmarks/results/exporting.json and docs/exporting.md; with `--only` the
others stay.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import tvshim  # noqa: F401  (before anything imports torchvision)

# isort: split
import onnxruntime
import torch
from page import write_between_markers
from runs import read_record, write_record
from torch import nn
from zoos import awake

import secateur as sc
from secateur.bench.running import in_turn
from secateur.cost.latency import quartiles
from secateur.models import build_model, example_inputs
from secateur.spec import BudgetError, ExportRecord
from secateur.store.exporting import export
from secateur.store.exporting.onnx import opened
from secateur.structure.capture import tensors_in

ROOT = Path(__file__).parent
RESULT = ROOT / "results" / "exporting.json"
PAGE = ROOT.parent / "docs" / "exporting.md"
MULTIPLES = (8, 4, 2, 1)


@dataclass(frozen=True)
class Network:
    name: str
    build: Callable[[], tuple[nn.Module, Any]]


def _named(name: str) -> tuple[nn.Module, Any]:
    return build_model(name), example_inputs(name)


TOKENS, VOCABULARY = 64, 1000


def _text(model: nn.Module) -> tuple[nn.Module, Any]:
    ids = torch.randint(5, VOCABULARY, (1, TOKENS))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return model, inputs if "Bert" in type(model).__name__ else {**inputs, "use_cache": False}


def _bert() -> tuple[nn.Module, Any]:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8, "intermediate_size": 1024}
    return _text(BertForSequenceClassification(BertConfig(vocab_size=VOCABULARY, **sizes)))


def _gpt2() -> tuple[nn.Module, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 256, "n_layer": 3, "n_head": 8, "bos_token_id": 1, "eos_token_id": 2}
    return _text(GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes)))


def _llama() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8, "intermediate_size": 688}
    return _text(LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, **sizes)))


NAMES = (
    "lenet5",
    "resnet20",
    "vgg16_bn",
    "torchvision:resnet18",
    "torchvision:densenet121",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_large",
    "torchvision:efficientnet_b0",
    "torchvision:shufflenet_v2_x1_0",
    "torchvision:regnet_y_400mf",
    "torchvision:googlenet",
    "torchvision:inception_v3",
    "torchvision:convnext_tiny",
    "torchvision:swin_t",
    "timm:vit_tiny_patch16_224",
    "timm:mixer_s32_224",
    "timm:ghostnet_100",
)
NETWORKS = (
    *(Network(name, partial(_named, name)) for name in NAMES),
    Network("transformers:bert", _bert),
    Network("transformers:gpt2", _gpt2),
    Network("transformers:llama", _llama),
)


def measured(network: Network, rounds: int, folder: Path) -> dict[str, Any]:
    model, inputs = awake(network)
    result, multiple = halved(model, inputs)
    assert result.verification is not None
    files = {"dense": folder / "dense.onnx", "pruned": folder / "pruned.onnx"}
    dense, pruned = (export(one, inputs, file) for one, file in zip((model, result.model), files.values(), strict=True))
    tensors = list(tensors_in(inputs))
    times_ms = in_turn([forward(file, tensors) for file in files.values()], repeats=rounds, clock=time.thread_time)
    low, speedup, high = quartiles([a / b for a, b in zip(*times_ms, strict=True)])
    sizes = [sum(record.size_bytes.values()) for record in (dense, pruned)]
    return {
        "round_to": multiple,
        "macs": result.after["macs"] / result.before["macs"],
        "cut_verified": result.verification.ok,
        "difference": max(one.verification.relative_diff for one in (dense, pruned)),
        "matches": dense.verification.ok and pruned.verification.ok,
        "inputs": [[port.name, list(port.shape)] for port in pruned.inputs],
        "notes": _notes(dense, pruned),
        "dense_bytes": sizes[0],
        "pruned_bytes": sizes[1],
        "smaller": sizes[1] < sizes[0],
        "dense_ms": statistics.median(times_ms[0]),
        "pruned_ms": statistics.median(times_ms[1]),
        "speedup": speedup,
        "speedup_quartiles": [low, high],
        "not_slower": speedup >= 1,
        "rounds": rounds,
    }


def halved(model: nn.Module, inputs: Any) -> tuple[sc.PruneResult, int]:
    """Pruned to half, and what the widths are multiples of."""
    for multiple in MULTIPLES:
        try:
            budget = {"macs": 0.5}
            return sc.prune(model, inputs, budget=budget, criterion="l2", round_to=multiple, tie="none"), multiple
        except BudgetError:
            continue
    raise SystemExit("a network that cannot be pruned to half")


def _notes(*records: ExportRecord) -> list[str]:
    return sorted({note for record in records for note in record.notes})


def forward(file: Path, tensors: Sequence[torch.Tensor]) -> Callable[[], object]:
    run = opened(file)
    return lambda: run(tensors)


def table(record: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    found = record["networks"]
    good = {key: sum(row[key] for row in found.values()) for key in ("matches", "smaller", "not_slower")}
    lines = [
        f"{len(found)} networks with half of their multiply-accumulates (random weights, `l2`, widths multiples of 8 "
        "where that allows half) beside the dense ones, in ONNX Runtime "
        f"{record['onnxruntime']} on one thread, batch 1: {good['matches']} match the network, {good['smaller']} files "
        f"are smaller, {good['not_slower']} are not slower. The difference is the larger one of both files at two "
        "batches, over the largest output; the speed-up is the median of paired rounds, with quartiles. Made by "
        "`python benchmarks/exporting.py`.",
        "",
        "| network | MACs left | difference | file, dense | pruned | time, dense | pruned | speed-up |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        low, high = row["speedup_quartiles"]
        lines.append(
            f"| {name} | {row['macs']:.0%} | {row['difference']:.0e} | {row['dense_bytes'] / 1e6:.2f} MB | "
            f"{row['pruned_bytes'] / 1e6:.2f} MB | {row['dense_ms']:.2f} ms | {row['pruned_ms']:.2f} ms | "
            f"{row['speedup']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["*"], help="some of the networks")
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    record = read_record(RESULT, {"networks": {}})
    record |= {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "threads": 1}
    for network in NETWORKS:
        if not any(fnmatch(network.name, pattern) for pattern in options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            row = measured(network, options.rounds, Path(folder))
        record["networks"][network.name] = row
        asked = {key: row[key] for key in ("matches", "smaller", "not_slower")}
        print(network.name, f"{row['difference']:.1e} {row['speedup']:.2f}", asked, row["notes"], flush=True)
        record["networks"] = {
            one.name: record["networks"][one.name] for one in NETWORKS if one.name in record["networks"]
        }
        write_record(RESULT, record)
    write_between_markers(PAGE, "exporting", table(record))


if __name__ == "__main__":
    main()
