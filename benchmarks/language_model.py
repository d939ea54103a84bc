"""Perplexity of a small language model right after pruning, layer by layer: dense, SparseGPT, Wanda, magnitude.

    python benchmarks/language_model.py

A Llama of four layers reads bytes. It is trained here, for some minutes, on sources of Python's standard library; other
modules of it are held out. The linear layers of the decoder are pruned to one half and to 2:4, calibrated on 128
sequences of the training text, with three seeds that draw these. No weight is trained afterwards.

Weights start with the variance of one over the width, as those of large models do: there the usual deviation of 0.02
stands for widths of some thousands. With 0.02 at this width the model learns more slowly, and magnitude alone is as
good a guide as Wanda.
"""

from __future__ import annotations

import copy
import json
import math
import statistics
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.sparse import Pattern
from secateur.sparse.reconstruction import reconstruct

RESULT = Path(__file__).parent / "results" / "language_model.json"
LENGTH, STEPS, BATCH, WIDTH = 128, 1000, 32, 128
SEEDS = (0, 1, 2)
HELD_OUT = ("textwrap.py", "heapq.py", "statistics.py", "fractions.py", "shutil.py")
METHODS = ("sparsegpt", "wanda", "magnitude")


def texts() -> tuple[Tensor, Tensor]:
    """Bytes for training, and those held out."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    train = b"".join(path.read_bytes() for path in files if path.name not in HELD_OUT)
    held = b"".join(path.read_bytes() for path in files if path.name in HELD_OUT)
    return tuple(torch.frombuffer(bytearray(text), dtype=torch.uint8).long() for text in (train, held))


def sequences(text: Tensor, count: int, seed: int) -> Tensor:
    starts = torch.randint(len(text) - LENGTH, (count,), generator=torch.Generator().manual_seed(seed))
    return text[starts[:, None] + torch.arange(LENGTH)]


def build() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=WIDTH,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        initializer_range=WIDTH**-0.5,
    )
    return LlamaForCausalLM(config)


def train(model: nn.Module, text: Tensor) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS, pct_start=0.1)
    model.train()
    for step in range(STEPS):
        ids = sequences(text, BATCH, 1000 + step)
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {float(loss.detach()):.3f}", flush=True)
    model.eval()


def perplexity(model: nn.Module, text: Tensor) -> float:
    """Per byte, over the whole held-out text in sequences of its own."""
    rows = text[: len(text) // LENGTH * LENGTH].reshape(-1, LENGTH)
    with torch.no_grad():
        losses = [float(model(input_ids=part, labels=part).loss) * len(part) for part in rows.split(64)]
    return math.exp(sum(losses) / len(rows))


def batches(text: Tensor, seed: int) -> Iterator[dict[str, Tensor]]:
    return ({"input_ids": part} for part in sequences(text, 128, 10_000 + seed).split(16))


def measure(model: nn.Module, train_text: Tensor, held: Tensor) -> dict[str, Any]:
    pruned = {f"{path}.weight": 0.5 for path, module in model.model.named_modules() if isinstance(module, nn.Linear)}
    wanted = {f"model.{name}": share for name, share in pruned.items()}
    found: dict[str, Any] = {}
    for pattern in ("element", "2:4"):
        for method in METHODS:
            values, start = [], time.process_time()
            for seed in SEEDS:
                made = reconstruct(
                    model, batches(train_text, seed), sparsity=wanted, pattern=Pattern.parse(pattern), method=method
                )
                sparse = copy.deepcopy(model)
                sparse.load_state_dict({**sparse.state_dict(), **made.weights})
                values.append(perplexity(sparse, held))
            found[f"{method} {pattern}"] = {
                "perplexity": values,
                "mean": statistics.mean(values),
                "cpu_s": (time.process_time() - start) / len(SEEDS),
            }
            print(method, pattern, [round(value, 3) for value in values], flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train_text, held = texts()
    model, start = build(), time.process_time()
    train(model, train_text)
    result = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_bytes": len(train_text),
        "held_out_bytes": len(held),
        "train_cpu_s": time.process_time() - start,
        "seeds": SEEDS,
        "dense": perplexity(model, held),
        "pruned": measure(model, train_text, held),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
