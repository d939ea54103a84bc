"""Half of the channels of real networks with random weights: what goes, how exact it is, and how long it takes.

    python benchmarks/coverage.py

Needs torchvision, timm and transformers. Seconds are CPU seconds of one thread for structure, scores, plan and
surgery; the verified difference is the largest absolute difference from the reference over the largest absolute
output.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import torch
import tvshim  # noqa: F401  (before anything imports torchvision)
from networks import NETWORKS, Network

import secateur as sc

RESULT = Path(__file__).parent / "results" / "coverage.json"


def measure(network: Network) -> dict[str, Any]:
    torch.manual_seed(0)
    model, inputs = network.build()
    with torch.no_grad():
        for parameter in model.parameters():
            if float(parameter.abs().max()) < 1e-4:
                parameter.uniform_(-0.5, 0.5)  # zeros at the end of a network would hide every difference
    model.eval()
    start = time.process_time()
    result = sc.prune(model, inputs, budget={"channels": 0.5}, verify=False)
    seconds = time.process_time() - start
    proof = sc.verify(model, result.model, result.plan, inputs)
    return {
        "network": network.name,
        "params_removed": 1 - result.after["param_count"] / result.before["param_count"],
        "macs_removed": 1 - result.after["macs"] / result.before["macs"],
        "relative_diff": proof.relative_diff,
        "verified": proof.ok,
        "cpu_s": seconds,
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = [measure(network) for network in NETWORKS]
    RESULT.write_text(json.dumps({"budget": "channels=0.5", "torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    print("| network | parameters gone | MACs gone | difference from the reference | CPU seconds |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['network']} | {row['params_removed']:.0%} | {row['macs_removed']:.0%} "
            f"| {row['relative_diff']:.0e} | {row['cpu_s']:.2f} |"
        )


if __name__ == "__main__":
    main()
