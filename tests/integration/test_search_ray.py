"""A search on a Ray cluster of two nodes, one of which is killed: the same result."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'secateur[search]'")

SCRIPT = textwrap.dedent("""
    import sys, time, threading
    from pathlib import Path
    import ray
    from ray.cluster_utils import Cluster
    import torch
    import secateur as sc
    from secateur.data import open_data
    from secateur.models import build_model, example_inputs
    from secateur.search.netadapt import Search, SearchConfig
    from secateur.search.workers import InProcess, open_workers
    from secateur.spec import parse_budgets

    out, shape = Path(sys.argv[1]), (1, 28, 28)
    torch.set_num_threads(1)

    def search(name, workers):
        model = build_model("lenet5", input_shape=shape)
        images = open_data("digits", "train", input_shape=shape, limit=200)
        config = SearchConfig(block_ratio=0.2, recover="none", short_steps=4, held_out=0.3)
        inputs = example_inputs("lenet5", input_shape=shape)
        return Search(model, inputs, parse_budgets("macs=0.6"), images, out / name, config, workers)

    here = search("here", InProcess()).run()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    workers = open_workers("ray")
    running = search("there", workers)
    told = []

    def kill_after_two(text):
        told.append(text)
        if len(told) == 2:
            cluster.remove_node(second, allow_graceful=False)

    running.told = kill_after_two
    there = running.run()
    workers.close()
    assert len([node for node in ray.nodes() if node["Alive"]]) == 1, "the node was not killed"
    assert there.rows == here.rows, (there.rows, here.rows)
    for ours, theirs in zip(here.model.parameters(), there.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    print("the same", len(there.rows))
    ray.shutdown()
    cluster.shutdown()
""")


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_ends_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=540, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the same" in done.stdout
