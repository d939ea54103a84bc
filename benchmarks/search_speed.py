"""How much sooner two workers end a search than one, and what the driver itself takes.

    SECATEUR_DATA=... python benchmarks/search_speed.py [--repeats 3]

ResNet-20 on 5,000 JPEG images of CIFAR-10, two iterations, one thread a worker; one worker and two in turn, so that
both meet the same machine. `driver` is the share of the processor time of all processes that the driver used.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from page import write_between_markers
from runs import write_record

from secateur.data import open_data
from secateur.models import build_model, example_inputs, load_weights
from secateur.search.netadapt import Search, SearchConfig
from secateur.search.workers import open_workers
from secateur.spec import parse_budgets
from secateur.train import TrainConfig

RESULT = Path(__file__).parent / "results" / "search_speed.json"
PAGE = Path(__file__).parent.parent / "docs" / "search.md"
DATA = Path(os.environ.get("SECATEUR_DATA", "."))
CONFIG = SearchConfig(block_ratio=0.1, short_steps=20, short_training=TrainConfig(learning_rate=0.01, augment=True))


def seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def run(workers: int) -> dict[str, Any]:
    model = build_model("resnet20")
    load_weights(model, DATA / "resnet20-cifar10-jpeg.safetensors")
    images = open_data("cifar10", "train", limit=5000)
    opened = open_workers(f"cpu:{workers}")
    own, others, start = seconds(resource.RUSAGE_SELF), seconds(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        budgets = parse_budgets({"macs": 0.8})
        path = Path(folder) / "run"
        result = Search(model, example_inputs("resnet20"), budgets, images, path, CONFIG, opened).run()
    wall = time.monotonic() - start
    opened.close()
    own, others = seconds(resource.RUSAGE_SELF) - own, seconds(resource.RUSAGE_CHILDREN) - others
    rows = [(row["block"], row["after"], row["accuracy"]) for row in result.rows]
    return {"workers": workers, "wall_s": wall, "driver_cpu_s": own, "workers_cpu_s": others, "chosen": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        for workers in (1, 2):
            runs.append(run(workers))
            print(runs[-1], flush=True)
    walls = {count: [one["wall_s"] for one in runs if one["workers"] == count] for count in (1, 2)}
    ratios = [two / one for one, two in zip(walls[1], walls[2], strict=True)]
    shares = [one["driver_cpu_s"] / (one["driver_cpu_s"] + one["workers_cpu_s"]) for one in runs]
    record = {"two_over_one": statistics.median(ratios), "driver": max(shares), "ratios": ratios, "runs": runs}
    write_record(RESULT, record)
    write_between_markers(
        PAGE,
        "search-speed",
        f"{record['two_over_one']:.2f} of the time, the median of {len(ratios)} ({min(ratios):.2f} to "
        f"{max(ratios):.2f}); "
        f"the driver takes {record['driver']:.1%} of the processor time at most.",
    )
    print({key: record[key] for key in ("two_over_one", "driver", "ratios")})


if __name__ == "__main__":
    main()
