"""Perplexity of a small language model right after pruning, layer by layer: dense, SparseGPT, Wanda, magnitude.

    python benchmarks/language_model.py [--page docs/language-models.md] [--judged-by choosing]

A Llama of three layers reads bytes. It is trained here, for some minutes, on modules of Python's standard library. The
linear layers of the decoder are pruned to one half and to 2:4, calibrated on 128 sequences of the training text, with
three seeds that draw these. No weight is trained afterwards.

Why this model. Wanda multiplies the size of a weight by that of its input, so it can tell more than the size alone only
where inputs differ and the weights do not make up for it already. So it is in large models, and it takes training: in a
network of a million weights that has read for five minutes, with large batches, inputs are still much alike, and
magnitude is as good a guide. Here the network is smaller and reads 6,000 batches of 8 sequences at a high learning rate
without weight decay: Adam moves each weight as far, whatever the size of its input, and the noise of small batches
leaves weights large that do little. Of the modules that are held out every other one served to choose this model; the
figures come from the others.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from page import write_between_markers
from torch import Tensor, nn

from secateur.data import TextSet
from secateur.sparse import Pattern, WeightConfig
from secateur.sparse.pruning import prune_weights
from secateur.sparse.reconstruction import reconstruct
from secateur.train import evaluate

RESULT = Path(__file__).parent / "results" / "language_model.json"
LENGTH, WIDTH, LAYERS = 128, 96, 3
STEPS, BATCH, LEARNING_RATE = 6000, 8, 5e-3
SEEDS = (0, 1, 2)
PARTS = {"choosing": 0, "figures": 10}
"""Of twenty modules in order of their names, those held out."""
METHODS = {
    "sparsegpt": "SparseGPT",
    "obc": "OBC",
    "wanda": "Wanda",
    "magnitude": "magnitude",
    "magnitude by output": "magnitude, of each output as many",
}
"""The last compares weights where Wanda does; for 2:4 it is the one before."""


def texts(part: str) -> tuple[Tensor, Tensor]:
    """Bytes for training, and those of one of `PARTS`."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    train = [path.read_bytes() for number, path in enumerate(files) if number % 20 not in PARTS.values()]
    held = [path.read_bytes() for number, path in enumerate(files) if number % 20 == PARTS[part]]
    return tuple(torch.frombuffer(bytearray(b"".join(text)), dtype=torch.uint8).long() for text in (train, held))


def sequences(text: Tensor, count: int, seed: int) -> Tensor:
    starts = torch.randint(len(text) - LENGTH, (count,), generator=torch.Generator().manual_seed(seed))
    return text[starts[:, None] + torch.arange(LENGTH)]


def build() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=LAYERS,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=LENGTH,
        initializer_range=WIDTH**-0.5,
    )
    return LlamaForCausalLM(config)


def train(model: nn.Module, text: Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.1)
    model.train()
    for step in range(STEPS):
        ids = sequences(text, BATCH, 1000 + step)
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 499:
            print(f"step {step + 1}: loss {float(loss.detach()):.3f}", flush=True)
    model.eval()


def perplexity(model: nn.Module, text: Tensor) -> float:
    """Per byte, over the whole text in sequences of its own."""
    return evaluate(model, TextSet(text[: len(text) // LENGTH * LENGTH].reshape(-1, LENGTH)))["perplexity"]


def batches(text: Tensor, seed: int) -> Iterator[dict[str, Tensor]]:
    return TextSet(sequences(text, 128, 10_000 + seed)).batches(16)


def pruned(model: nn.Module, text: Tensor, method: str, pattern: Pattern, seed: int) -> nn.Module:
    layers = [path for path, module in model.named_modules() if isinstance(module, nn.Linear) and path != "lm_head"]
    if method == "magnitude by output":
        config = WeightConfig(pattern, "magnitude", "row", targets=layers)
        share = None if pattern.keep_per_group else 0.5
        inputs = {"input_ids": text[None, :LENGTH]}
        return prune_weights(model, inputs, sparsity=share, config=config, verify=False).model
    shares = {f"{path}.weight": 0.5 for path in layers}
    made = reconstruct(model, batches(text, seed), sparsity=shares, pattern=pattern, method=method)
    sparse = copy.deepcopy(model)
    sparse.load_state_dict({**sparse.state_dict(), **made.weights})
    return sparse


def measure(model: nn.Module, train_text: Tensor, held: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pattern in ("element", "2:4"):
        for method in METHODS:
            start = time.process_time()
            made = (pruned(model, train_text, method, Pattern.parse(pattern), seed) for seed in SEEDS)
            values = [perplexity(sparse, held) for sparse in made]
            seconds = (time.process_time() - start) / len(SEEDS)
            found[f"{method} {pattern}"] = {"perplexity": values, "mean": statistics.mean(values), "cpu_s": seconds}
            print(method, pattern, [round(value, 3) for value in values], flush=True)
    return found


def table(result: dict[str, Any]) -> str:
    spread = max(max(found["perplexity"]) - min(found["perplexity"]) for found in result["pruned"].values())
    lines = [
        f"A Llama of {result['parameters']:,} parameters that reads bytes, trained here on Python's standard library;",
        f"{result['held_out_bytes']:,} bytes of modules that it has not seen. Mean of three draws of the 128 sequences",
        f"that calibrate; they lie {spread:.2f} apart at most. Made by `python benchmarks/language_model.py`.",
        "",
        "| method | half of the weights | 2:4 |",
        "|---|---:|---:|",
        f"| dense | {result['dense']:.2f} | {result['dense']:.2f} |",
    ]
    for method, name in METHODS.items():
        means = [f"{result['pruned'][f'{method} {pattern}']['mean']:.2f}" for pattern in ("element", "2:4")]
        lines.append(f"| {name} | {' | '.join(means)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, help="write the table there, between markers")
    parser.add_argument("--judged-by", choices=tuple(PARTS), default="figures", help="which held-out modules")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train_text, held = texts(asked.judged_by)
    model, start = build(), time.process_time()
    train(model, train_text)
    result = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_bytes": len(train_text),
        "held_out_bytes": len(held),
        "judged_by": asked.judged_by,
        "train_cpu_s": time.process_time() - start,
        "seeds": SEEDS,
        "dense": perplexity(model, held),
        "pruned": measure(model, train_text, held),
    }
    print(json.dumps(result, indent=1))
    if asked.judged_by == "figures":
        temporary = RESULT.with_suffix(".part")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(RESULT)
    if asked.page is not None:
        write_between_markers(asked.page, "language-model", table(result))


if __name__ == "__main__":
    main()
