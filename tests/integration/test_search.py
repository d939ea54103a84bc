"""`secateur search`: nothing is lost when the driver or a worker is killed, and the options are what they were."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from calling import secateur

import secateur as sc

ASKED = [
    *("search", "lenet5", "--data", "digits", "--limit", "300", "--budget", "macs=0.6", "--block-ratio", "0.2"),
    *("--short-steps", "4", "--batch-size", "32", "--short-lr", "0.05", "--calibration", "64"),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    made = secateur(*ASKED, "--out", tmp_path_factory.mktemp("search") / "whole", "--json")
    assert made.code == 0, made.err
    return made.record["iterations"]


def begun(out: Path, *options: str) -> subprocess.Popen[bytes]:
    """A search in a process of its own, when its first candidate is there."""
    command = [sys.executable, "-m", "secateur", *ASKED, *options, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    journal, deadline = out / "search.jsonl", time.monotonic() + 200
    while not (journal.is_file() and b'"candidate"' in journal.read_bytes()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def children(pid: int) -> list[int]:
    """Processes that this one has started, other than the one that watches over shared memory."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_killed_search_ends_in_the_same_plan(undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    process = begun(tmp_path / "killed")
    time.sleep(random.random())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = secateur(*ASKED, "--out", tmp_path / "killed", "--json")
    assert again.record["iterations"] == undisturbed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
def test_a_search_whose_workers_are_killed_ends_in_the_same_plan(
    undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    process = begun(tmp_path / "killed", "--workers", "cpu:2")
    for _ in range(2):
        for worker in children(process.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
        time.sleep(random.random())
    assert process.wait(timeout=300) == 0
    again = secateur(*ASKED, "--out", tmp_path / "killed", "--json")  # all of it is read from the journal
    assert again.record["iterations"] == undisturbed


def test_what_a_search_has_seen_can_be_had(undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "first"
    secateur(*ASKED, "--out", run)
    had = secateur("materialise", run, "--iteration", "1", "--out", out, "--json")
    assert had.code == 0, had.err
    assert had.record["macs"] == undisturbed[0]["macs"]
    judged = secateur("evaluate", out, "--data", "digits", "--json")
    assert judged.code == 0 and 0 <= judged.record["accuracy"] <= 1
    missing = secateur("materialise", tmp_path, "--out", tmp_path / "none")
    assert missing.code == 2 and "is no folder of a search" in missing.err


NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x):
        import net_in_parts.relu

        return self.head(net_in_parts.relu.relu(self.first(x.flatten(1))))
"""


def test_workers_find_the_users_own_classes(tmp_path: Path) -> None:
    """Also where the command's folder, not the user's, leads the search for modules, as for an installed command."""
    package = tmp_path / "net_in_parts"
    package.mkdir()
    (package / "__init__.py").write_text(NETWORK)
    (package / "relu.py").write_text("def relu(x):\n    return x.clamp(min=0)\n")
    few = ("--limit", "100", "--input-shape", "1,8,8", "--short-steps", "1", "--recover", "none", "--workers", "cpu:1")
    asked = ["search", "net_in_parts:Net", "--data", "digits", "--budget", "macs=0.9", *few, "--out", "found"]
    code = f"import sys; sys.argv = ['secateur', *{asked}]; from secateur.cli.app import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(Path(sc.__file__).parents[1])}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "more accurate and lower in MACs" in done.stdout


def test_a_search_destroys_nothing(tmp_path: Path) -> None:
    made = secateur("train", "lenet5", "--data", "digits", "--limit", "100", "--epochs", "1", "--out", tmp_path / "net")
    assert made.code == 0, made.err
    before = {path: path.read_bytes() for path in (tmp_path / "net").rglob("*") if path.is_file()}
    asked = ("search", tmp_path / "net", "--data", "digits", "--budget", "macs=0.6", "--out", tmp_path / "net")
    refused = secateur(*asked)
    assert refused.code == 2 and "holds no earlier search" in refused.err
    for wanted in ("there is no iteration 2", "there is no iteration 2"):  # nor does a call that fails leave anything
        early = secateur(*ASKED, "--from-iteration", "2", "--out", tmp_path / "fresh")
        assert early.code == 2 and wanted in early.err
    assert {path: path.read_bytes() for path in (tmp_path / "net").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--short-epochs", "1"], "--short-steps or --short-epochs, not both"),
        (["--workers", "four"], "workers 'four': expected cpu:N"),
        (["--block-ratio", "1.5"], "block_ratio=1.5: expected a share"),
        (["--budget", "channels=0.5"], "budget channels: a search goes down in"),
    ],
)
def test_bad_options_say_what_is_wrong(options: list[str], message: str, tmp_path: Path) -> None:
    made = secateur(*ASKED, *options, "--out", tmp_path / "run")
    assert made.code == 2 and message in made.err
