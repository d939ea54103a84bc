"""A process for each device: the same outputs, exactly the predicted bytes, and an end to every failure."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import secateur

from secateur.models import build_model
from secateur.partition import CrossingTarget, Topology, partition, run_split
from secateur.partition.folder import shard_name
from secateur.partition.runtime import launch
from secateur.partition.runtime.process import alive_name
from secateur.sparse import apply_masks_
from secateur.spec import DataError, SecateurError

TIMEOUT = 15.0


@pytest.fixture(scope="module")
def network() -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return build_model("lenet5").eval(), torch.randn(25, 1, 32, 32)


def test_a_run_of_processes_makes_the_same_and_sends_what_was_predicted(
    network: tuple[torch.nn.Module, torch.Tensor], tmp_path: Path
) -> None:
    model, x = network
    slow = Topology.model_validate({"devices": 3, "links": {"mbit_per_s": 8, "latency_ms": 20}})
    split = partition(model, x[:10], slow)
    split.save(tmp_path / "split", model)
    found = run_split(tmp_path / "split", [x], timeout=TIMEOUT)
    torch.testing.assert_close(found.outputs[0], model(x), rtol=1e-5, atol=1e-5)
    assert (found.batches, found.samples) == (3, 25)
    assert np.array_equal(found.bytes, 3 * split.traffic(model).bytes)
    slowed = run_split(tmp_path / "split", [x], slowed=True, timeout=TIMEOUT)
    torch.testing.assert_close(slowed.outputs[0], found.outputs[0], rtol=0, atol=0)
    longest = split.traffic(model).bytes.max() * 3 / 1e6 + 3 * 5 * 0.02
    assert longest < slowed.seconds < 3 * longest
    with pytest.raises(DataError, match=r"expected samples of \[\(\(1, 32, 32\), 'float32'\)\]"):
        run_split(tmp_path / "split", [x[:, :, :28]])
    with pytest.raises(DataError, match=r"'float16'.* expected samples"):
        run_split(tmp_path / "split", [x.half()])


def test_nothing_crosses_where_there_is_no_link(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = build_model("resnet20").eval(), torch.randn(8, 3, 32, 32)
    apart = Topology.model_validate({"devices": 3, "unlike": [{"devices": [1, 2], "missing": True}]})
    split = partition(model, x, apart)
    target = CrossingTarget(model, split, 0.5)
    apply_masks_(model, target.masks(dict(model.named_parameters())))
    split.save(tmp_path / "split", model)
    found = run_split(tmp_path / "split", [x], timeout=TIMEOUT)
    torch.testing.assert_close(found.outputs[0], model(x), rtol=1e-5, atol=1e-5)
    assert np.array_equal(found.bytes, split.traffic(model).bytes)
    assert found.bytes[1, 2] == found.bytes[2, 1] == 0 < found.bytes[0, 1]


NETWORK = """
from collections import namedtuple

from torch import nn

Scores = namedtuple("Scores", ["other", "logits"])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.other, self.head = nn.Linear(64, 16), nn.Linear(16, 10), nn.Linear(16, 10)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        return Scores(self.other(x), self.head(x))
"""


def test_a_network_that_returns_a_record_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "net_with_record.py").write_text(NETWORK)
    data = ("--data", "digits", "--input-shape", "1,8,8", "--limit", "64")
    made = secateur("partition", "net_with_record:Net", *data, "--devices", "2", "--out", "apart")
    assert made.code == 0, made.err
    assert "run-split apart --data ... --factory net_with_record:Net runs it" in made.out
    given = ("run-split", "apart", "--data", "digits", "--limit", "64", "--factory", "net_with_record:Net", "--json")
    found = secateur(*given)
    assert found.code == 0, found.err
    assert found.record["bytes_as_predicted"] and found.record["apart"] < 1e-5


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_device_that_dies_or_hangs_ends_the_run(
    network: tuple[torch.nn.Module, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: signal.Signals,
) -> None:
    model, x = network
    slow = Topology.model_validate({"devices": 2, "links": {"mbit_per_s": 0.4}})
    partition(model, x, slow).save(tmp_path / "split", model)

    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(launch.subprocess, "Popen", Recorded)

    def strike() -> None:
        """In the middle: a run takes more than a minute."""
        while len(started) < 2:
            time.sleep(0.1)
        orders = [json.loads(process.args[-1]) for process in started]
        while not all((Path(order["work"]) / alive_name(order["device"])).exists() for order in orders):
            time.sleep(0.1)
        time.sleep(5.0)
        started[1].send_signal(how)

    threading.Thread(target=strike, daemon=True).start()
    start = time.monotonic()
    with pytest.raises(SecateurError, match=r"device 1 failed.*signal 9|waits for device 1 in vain"):
        run_split(tmp_path / "split", [torch.cat([x] * 40)], slowed=True, timeout=8.0)
    assert time.monotonic() - start < 60
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_nothing_of_the_current_folder_runs(
    network: tuple[torch.nn.Module, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = network
    split = partition(model, x, 2)
    split.save(tmp_path / "split", model)
    for module in ("json", "numpy", "secateur"):
        (tmp_path / "split" / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path / "split")
    found = run_split(".", [x], timeout=TIMEOUT)
    assert found.samples == len(x) and not (tmp_path / "ran").exists()


class TwoInputs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 6)

    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + shift


@pytest.mark.parametrize(("rows", "given", "said"), [(4, 3, r"\[3, 4\] samples"), (1, 1, "input 1 .* no samples")])
def test_every_input_holds_a_row_for_each_sample(rows: int, given: int, said: str, tmp_path: Path) -> None:
    model = TwoInputs().eval()
    partition(model, (torch.randn(4, 8), torch.randn(rows, 6)), 2).save(tmp_path / "split", model)
    with pytest.raises(DataError, match=said):
        run_split(tmp_path / "split", [torch.randn(4, 8), torch.randn(given, 6)])


def test_a_link_too_slow_for_any_run_is_told(network: tuple[torch.nn.Module, torch.Tensor], tmp_path: Path) -> None:
    model, x = network
    slow = Topology.model_validate({"devices": 2, "links": {"mbit_per_s": 1e-6}})
    partition(model, x, slow).save(tmp_path / "split", model)
    with pytest.raises(SecateurError, match="give them a higher rate"):
        run_split(tmp_path / "split", [x], slowed=True)


def test_a_shard_that_does_not_fit_ends_the_run(network: tuple[torch.nn.Module, torch.Tensor], tmp_path: Path) -> None:
    model, x = network
    partition(model, x, 2).save(tmp_path / "split", model)
    shard = tmp_path / "split" / shard_name(1)
    shard.write_bytes(shard.read_bytes()[:-4] + b"abcd")
    with pytest.raises(SecateurError, match=r"device 1 failed, and the run was stopped: .* is not the shard"):
        run_split(tmp_path / "split", [x], timeout=TIMEOUT)
