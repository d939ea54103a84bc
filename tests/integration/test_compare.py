"""`secateur compare`: every cell, and nothing lost when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from calling import secateur

from secateur.comparison import CELLS

ASKED = [
    *("compare", "lenet5", "--data", "digits", "--limit", "400", "--budget", "params=0.3", "--calibration", "128"),
    *("--recover", "none", "--train-epochs", "3", "--epochs", "2", "--repeats", "2"),
]


def numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All but what is measured in time."""
    timed = ("latency_ms", "iqr_ms", "speedup", "speedup_iqr")
    return [{key: value for key, value in row.items() if key not in timed} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    made = secateur(*ASKED, "--out", tmp_path_factory.mktemp("compare") / "whole", "--json")
    assert made.code == 0, made.err
    return made.record["rows"]


def test_every_cell_is_filled_at_one_number_of_parameters(undisturbed: list[dict[str, Any]]) -> None:
    assert [(row["seed"], row["cell"]) for row in undisturbed] == [(seed, cell) for seed in (0, 1) for cell in CELLS]
    for seed in (0, 1):
        rows = {row["cell"]: row for row in undisturbed if row["seed"] == seed}
        left = {rows[cell]["params_left"] for cell in ("channels", "channels, retrained", "from scratch")}
        assert left == {rows["single weights"]["params_left"]} == {rows["single weights, retrained"]["params_left"]}
        assert rows["channels"]["macs"] < rows["single weights"]["macs"] == rows["dense"]["macs"]
        assert rows["single weights"]["packed_bytes"] < 0.5 * rows["single weights"]["file_bytes"]
        assert rows["dense, retrained"]["loss"] < rows["dense"]["loss"]


@pytest.mark.parametrize("cell", ["dense", "channels-retrained", "from-scratch"])
def test_a_killed_comparison_ends_in_the_same_numbers(
    cell: str, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Killed in the training of a cell, started again."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "secateur", *ASKED, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    checkpoint = out / "seed-0" / f".{cell}-training" / "checkpoint.safetensors"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "seed-0" / cell / "run.json").exists()
    again = secateur(*ASKED, "--out", out, "--json")
    assert again.code == 0, again.err
    assert numbers(again.record["rows"]) == numbers(undisturbed)


def test_trained_weights_are_taken_as_they_are(tmp_path: Path) -> None:
    base = tmp_path / "base"
    data = ["--data", "digits", "--limit", "300"]
    assert secateur("train", "lenet5", *data, "--epochs", "1", "--out", base).code == 0
    options = ["--train-epochs", "1", "--epochs", "1", "--repeats", "1", "--recover", "none"]
    made = secateur("compare", base, *data, *options, "--out", tmp_path / "out", "--json")
    assert made.code == 0, made.err
    known = secateur("evaluate", base, *data, "--json").record
    assert made.record["rows"][0]["accuracy"] == known["accuracy"]
    assert set(made.record["best"]) == {"accuracy", "macs", "file_bytes", "packed_bytes", "speedup"}
