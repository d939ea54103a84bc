"""ResNet-20 to half of its multiply-accumulates by a search on two cores, before any long training.

    SECATEUR_DATA=... python benchmarks/search_resnet.py [--folder DIR] [--seed 0]

All 50,000 JPEG training images of CIFAR-10, 3 % of which judge candidates as they are after healing; the winner of the
one iteration learns for 40 epochs, from labels and from the dense network. Accuracy on the 10,000 test images, which
nothing was chosen by. A search that was killed goes on in `--folder`; the times are those of this call, of the driver
and all workers.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from page import write_between_markers
from runs import read_record, with_run, write_record

from secateur.data import open_data
from secateur.models import build_model, example_inputs, load_weights
from secateur.search.netadapt import Search, SearchConfig
from secateur.search.workers import open_workers
from secateur.spec import parse_budgets
from secateur.train import TrainConfig, evaluate

RESULT = Path(__file__).parent / "results" / "search_resnet.json"
PAGE = Path(__file__).parent.parent / "docs" / "search.md"
DATA = Path(os.environ.get("SECATEUR_DATA", "."))
TRAINING = TrainConfig(
    batch_size=128, learning_rate=0.1, schedule="one-cycle", augment=True, precision="bf16", channels_last=True
)
CONFIG = SearchConfig(
    criterion="second-order",
    block_ratio=0.5,
    judge_by="loss",
    short_steps=0,
    winner_steps=15000,
    calibration=256,
    held_out=0.03,
    teacher=0.9,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("search-resnet"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", default="cpu:1x2")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--winner-steps", type=int, default=CONFIG.winner_steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = build_model("resnet20")
    load_weights(model, DATA / "resnet20-cifar10-jpeg.safetensors")
    train, test = open_data("cifar10", "train"), open_data("cifar10", "test")
    before = 100 * evaluate(model.eval(), test)["accuracy"]
    workers = open_workers(options.workers, threads=options.threads)
    start = time.monotonic()
    config = SearchConfig(
        **{**vars(CONFIG), "winner_steps": options.winner_steps, "short_training": TRAINING, "seed": options.seed}
    )
    inputs = example_inputs("resnet20")
    search = Search(model, inputs, parse_budgets({"macs": 0.5}), train, options.folder, config, workers, told=print)
    result = search.run()
    minutes = (time.monotonic() - start) / 60
    workers.close()
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    row = {
        "seed": options.seed,
        "before": before,
        "accuracy": 100 * evaluate(result.model, test)["accuracy"],
        "macs": result.after["macs"] / result.before["macs"],
        "minutes": minutes,
        "cpu_minutes": used / 60,
        "workers": options.workers,
        "threads": options.threads,
        "winner_steps": options.winner_steps,
        "chosen": [(found["block"], found["after"], found["accuracy"]) for found in result.rows],
    }
    print(row)
    record = with_run(read_record(RESULT), row)
    write_record(RESULT, record)
    write_between_markers(PAGE, "search-resnet", table(record))


def table(record: Mapping[str, Any]) -> str:
    """Runs as Markdown."""
    lines = ["| seed | before | after | MACs | iterations | minutes | CPU minutes |", f"|{'---:|' * 7}"]
    for run in record["runs"]:
        about = f"{run['before']:.2f} | {run['accuracy']:.2f} | {run['macs']:.1%} | {len(run['chosen'])}"
        lines.append(f"| {run['seed']} | {about} | {run['minutes']:.0f} | {run['cpu_minutes']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
