"""A published-size network with trained weights: evaluated, pruned, proved, saved, loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import secateur

import secateur as sc

WEIGHTS = "resnet20-cifar10-jpeg.safetensors"


def test_resnet20_is_evaluated_pruned_proved_saved_and_loaded(data_dir: Path, tmp_path: Path) -> None:
    weights = ["--weights", data_dir / WEIGHTS]
    data = ["--data", f"cifar10:{data_dir / 'cifar10-subset.npz'}", "--limit", 200]
    before = secateur("evaluate", "resnet20", *weights, *data, "--json").record
    assert before["param_count"] == 269_722
    assert before["accuracy"] > 0.8
    options = ["--budget", "macs=0.7", "--round-to", 2, "--calibration", 192, "--out", tmp_path / "small", "--json"]
    made = secateur("prune", "resnet20", *weights, *data, *options)
    assert made.code == 0, made.err
    assert made.record["before"]["accuracy"] == before["accuracy"]
    assert made.record["verification"]["ok"] is True
    assert 0.6 < made.record["after"]["macs"] / before["macs"] <= 0.7
    assert made.record["after"]["accuracy"] > before["accuracy"] - 0.05
    again = secateur("evaluate", tmp_path / "small", *data, "--json").record
    assert again == {key: made.record["after"][key] for key in again}
    assert secateur("verify", tmp_path / "small", "--original", "resnet20", *weights).code == 0
    assert sc.load(tmp_path / "small").layer1[0].conv1.out_channels < 16


@pytest.mark.slow
def test_resnet20_on_all_test_images(data_dir: Path) -> None:
    weights = ["--weights", data_dir / WEIGHTS]
    data = ["--data", f"cifar10:{data_dir / 'cifar10-jpeg.tar.xz'}"]
    found = secateur("evaluate", "resnet20", *weights, *data, "--json").record
    assert found["accuracy"] == pytest.approx(0.8829, abs=1e-6)
