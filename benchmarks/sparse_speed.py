"""What zeros win in time: a linear layer of 1024 x 1024 on the CPU, dense against torch's CSR format; and 2:4 on a GPU.

    python benchmarks/sparse_speed.py [--json benchmarks/results/sparse_speed.json] [--page docs/sparse-weights.md]

One thread, float32, zeros anywhere. Medians of interleaved runs: other work on the machine hits both alike. The GPU
part runs where there is one with sparse tensor cores, and says so where not.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from page import write_between_markers
from torch import Tensor, nn

from secateur import SecateurError
from secateur.sparse.pattern import Pattern
from secateur.sparse.pruning import WeightConfig, prune_weights
from secateur.sparse.select import keep_highest
from secateur.sparse.semi_structured import semi_structured_

SIZE = 1024
BATCHES = (1, 32, 256)
SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
REPEATS = 15


def medians_ms(tasks: dict[str, Callable[[], Tensor]], repeats: int = REPEATS) -> dict[str, float]:
    """Median milliseconds of each task, all tasks in turn, after one run that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def on_the_cpu() -> list[dict[str, float]]:
    weight = torch.randn(SIZE, SIZE)
    rows: list[dict[str, float]] = []
    for sparsity in SPARSITIES:
        (mask,) = keep_highest([weight.abs()], round(sparsity * weight.numel()))
        zeros = weight * mask
        compressed = zeros.to_sparse_csr()
        for batch in BATCHES:
            x = torch.randn(batch, SIZE)
            columns = x.T.contiguous()
            torch.testing.assert_close(compressed @ columns, (x @ zeros.T).T, rtol=1e-3, atol=1e-3)
            tasks = {"dense_ms": lambda x=x, w=zeros: x @ w.T, "csr_ms": lambda c=columns, w=compressed: w @ c}
            rows.append({"sparsity": sparsity, "batch": batch, **medians_ms(tasks)})
            print(rows[-1], flush=True)
    return rows


def on_the_gpu() -> dict[str, Any]:
    """2:4 against dense in float16, 4096 x 4096 and 4096 inputs; or why it was not measured."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = nn.Sequential(nn.Linear(4096, 4096))
    config = WeightConfig(Pattern.parse("2:4"))
    dense = prune_weights(model, (torch.randn(1, 4096),), sparsity=None, config=config, verify=False).model
    dense = dense.to(device).half()
    sparse = copy.deepcopy(dense)
    try:
        semi_structured_(sparse)
    except SecateurError as error:
        return {"not_measured": str(error)}
    x = torch.randn(4096, 4096, dtype=torch.float16, device=device)

    def run(network: nn.Module) -> Tensor:
        with torch.inference_mode():
            made = network(x)
        torch.cuda.synchronize()
        return made

    times = medians_ms({"dense_ms": lambda: run(dense), "semi_structured_ms": lambda: run(sparse)}, 100)
    return {"device": torch.cuda.get_device_name(), **times}


def table(rows: list[dict[str, float]]) -> str:
    """CSR over dense as Markdown, a sparsity a line."""
    lines = [f"| zeros | {' | '.join(f'batch {batch}' for batch in BATCHES)} |", "|---:|" + "---:|" * len(BATCHES)]
    for sparsity in SPARSITIES:
        found = {row["batch"]: row for row in rows if row["sparsity"] == sparsity}
        cells = [
            f"{found[batch]['dense_ms']:.2f} / {found[batch]['csr_ms']:.2f} ms: "
            f"{found[batch]['dense_ms'] / found[batch]['csr_ms']:.2f} x"
            for batch in BATCHES
        ]
        lines.append(f"| {sparsity:.0%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path, help="a page with markers, into which the table goes")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = on_the_cpu()
    about = {"torch": torch.__version__, "machine": platform.machine(), "threads": 1}
    record = {"cpu": rows, "gpu": on_the_gpu(), "about": about}
    print(table(rows))
    print(record["gpu"])
    if options.json:
        temporary = options.json.with_suffix(".tmp")
        temporary.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(temporary, options.json)
    if options.page:
        write_between_markers(options.page, "speed", table(rows))


if __name__ == "__main__":
    main()
