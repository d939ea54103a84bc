"""Bench: everything runs once a round, ratios are to the first network, and what cannot run is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from calling import listing, secateur
from torch import nn

from secateur.bench import Network, bench
from secateur.bench.memory import working_bytes
from secateur.bench.running import in_turn
from secateur.spec import BenchRecord, ModelError

IMAGE = torch.randn(1, 4)


class Clock:
    """Time that passes only where somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_all_run_once_a_round_and_take_turns_at_the_start() -> None:
    clock, order = Clock(), []

    def forward(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            clock.now += seconds

        return run

    times = in_turn([forward("a", 0.002), forward("b", 0.001)], repeats=2, warmup=1, clock=clock)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert times == [pytest.approx([2, 2]), pytest.approx([1, 1])]


def test_ratios_are_to_the_first_network_of_the_engine() -> None:
    clock = Clock()

    class Slow(nn.Linear):
        def __init__(self, seconds: float) -> None:
            super().__init__(4, 2)
            self.seconds = seconds

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            clock.now += self.seconds
            return super().forward(x)

    entries = [Network("slow", Slow(0.004).eval(), (IMAGE,)), Network("quick", Slow(0.001).eval(), (IMAGE,))]
    record = bench(entries, batch=8, repeats=5, clock=clock)
    assert [row.speedup for row in record.rows] == [1, pytest.approx(4)]
    assert [row.latency_ms for row in record.rows] == [pytest.approx(4), pytest.approx(1)]
    assert record.rows[1].throughput == pytest.approx(8000)
    assert record.rows[0].size_bytes == 4 * (4 * 2 + 2)
    assert (record.batch, record.threads, record.repeats) == (8, 1, 5)
    assert BenchRecord.from_json(record.to_json()) == record


def test_memory_is_what_a_forward_takes() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux")
    taken = working_bytes(lambda: torch.ones(16 << 20), torch.device("cpu"))
    assert taken == pytest.approx(64 << 20, rel=0.05)


def test_inputs_without_a_batch_have_no_other_batch() -> None:
    class Detector(nn.Module):
        def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
            return images[0].sum()

    entry = Network("detector", Detector().eval(), ([torch.ones(3, 4, 4)],))
    assert bench([entry], repeats=1).rows[0].model == "detector"
    with pytest.raises(ModelError, match="detector reads inputs without a batch"):
        bench([entry], batch=2, repeats=1)


def test_the_command_compares_folders_names_and_files_and_the_report_shows_it(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    small, file, out = tmp_path / "small", tmp_path / "small.onnx", tmp_path / "bench"
    assert secateur("prune", "lenet5", "--budget", "macs=0.5", "--out", small).code == 0
    assert secateur("export", small, "--out", file).code == 0
    asked = [small, file, "--engines", "eager,onnxruntime", "--batch", 2, "--repeats", 3, "--threads", 1]
    found = secateur("bench", *asked, "--out", out, "--json")
    assert found.code == 0, found.err
    rows = found.record["rows"]
    assert [(row["model"], row["engine"]) for row in rows] == [
        (str(small), "eager"),
        (str(small), "onnxruntime"),
        (str(file), "onnxruntime"),
    ]
    assert all(row["latency_ms"] > 0 and row["peak_memory_bytes"] >= row["size_bytes"] for row in rows)
    assert "does not run in eager" in found.record["notes"][0]
    assert sorted(listing(out)) == ["bench.json", "recipe.yaml"]

    page = tmp_path / "page.html"
    assert secateur("report", out, "-o", page).code == 0
    assert "onnxruntime" in page.read_text()
    assert secateur("bench", "--recipe", out / "recipe.yaml", "--repeats", 1).code == 0


@pytest.mark.slow
def test_compiled_networks_run() -> None:
    entry = Network("linear", nn.Linear(4, 2).eval(), (IMAGE,))
    assert [row.engine for row in bench([entry], ["eager", "compile"], repeats=2).rows] == ["eager", "compile"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "nothing to measure"),
        (["lenet5", "--engines", "eagre"], "did you mean: eager"),
        (["lenet5", "--batch", 0], "at least 1"),
        (["gone.onnx", "--engines", "onnxruntime"], "gone.onnx.json"),
        (["gone.onnx"], "does not run in eager"),
    ],
)
def test_bad_input_is_one_message(asked: list[object], message: str) -> None:
    found = secateur("bench", *asked)
    assert found.code == 2
    assert message in found.err
