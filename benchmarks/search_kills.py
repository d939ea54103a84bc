"""A search whose driver, workers or Ray node are killed with SIGKILL at random moments ends as an undisturbed one.

    python benchmarks/search_kills.py [--kinds driver worker node] [--times 10]

LeNet-5 on some of scikit-learn's digits. A killed driver is started again by the same command; workers and nodes are
replaced by the running one. Moments at which there was nothing to kill do not count. Compared are the journal's choices
and the weights of the result, bit for bit. A node is one of two on this machine, of which the other holds the head.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs import read_record, write_record

RESULT = Path(__file__).parent / "results" / "search_kills.json"
ASKED = [
    *("search", "lenet5", "--data", "digits", "--limit", "300", "--budget", "macs=0.5", "--block-ratio", "0.15"),
    *("--short-steps", "10", "--batch-size", "32", "--short-lr", "0.05", "--calibration", "64", "--epochs", "2"),
]


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "secateur", *ASKED, *options, "--out", str(out)]


def started(out: Path, *options: str, **environment: str) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command(out, *options), stdout=quiet, stderr=quiet, env={**os.environ, **environment})


def ended(out: Path) -> tuple[list[Any], bytes]:
    """What was chosen, and the weights."""
    events = [json.loads(line) for line in (out / "search.jsonl").read_text().splitlines()]
    chosen = [event for event in events if event["event"] == "chosen"]
    return chosen, (out / "result" / "model.safetensors").read_bytes()


def kill_driver(out: Path, after: float) -> bool:
    """Whether it was killed before it was done; it is done when this returns."""
    process = started(out)
    time.sleep(after)
    disturbed = process.poll() is None
    process.kill()
    process.wait()
    subprocess.run(command(out), check=True, capture_output=True)
    return disturbed


def kill_worker(out: Path, after: float) -> bool:
    process = started(out, "--workers", "cpu:2")
    time.sleep(after)
    workers = [] if process.poll() is not None else _workers(process.pid)
    for worker in workers[:1]:
        os.kill(worker, signal.SIGKILL)
    if process.wait() != 0:
        raise SystemExit("the search did not survive its worker")
    return bool(workers)


def _workers(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def kill_node(out: Path, after: float) -> bool:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    process = started(out, "--workers", "ray", RAY_ADDRESS=cluster.address)
    time.sleep(after)
    disturbed = process.poll() is None
    cluster.remove_node(node, allow_graceful=False)
    code = process.wait()
    cluster.shutdown()
    if code != 0:
        raise SystemExit("the search did not survive its node")
    return disturbed


KINDS: dict[str, Callable[[Path, float], bool]] = {"driver": kill_driver, "worker": kill_worker, "node": kill_node}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        subprocess.run(command(Path(folder) / "whole"), check=True, capture_output=True)
        takes, wanted = time.monotonic() - start, ended(Path(folder) / "whole")
        for kind in options.kinds:
            runs: list[dict[str, Any]] = []
            while sum(run["disturbed"] for run in runs) < options.times:
                out, after = Path(folder) / f"{kind}-{len(runs)}", generator.uniform(0.3, 1) * takes
                disturbed = KINDS[kind](out, after)
                runs.append({"killed_after_s": after, "disturbed": disturbed, "same": ended(out) == wanted})
                print(kind, runs[-1], flush=True)
            write_record(RESULT, {**read_record(RESULT), kind: {"undisturbed_s": takes, "runs": runs}})


if __name__ == "__main__":
    main()
