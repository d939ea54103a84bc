"""The classroom flow on the command line: train, prune, finetune, evaluate, verify."""

from __future__ import annotations

from pathlib import Path

import pytest
from calling import secateur

import secateur as sc

COSTS = {"param_count", "macs", "size_bytes", "activation_bytes", "sparsity"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classroom") / "base"
    made = secateur("train", "lenet5", "--data", "digits", "--epochs", 10, "--batch-size", 64, "--out", out, "--json")
    assert made.code == 0, made.err
    assert made.record["after"]["accuracy"] > 0.93
    assert made.record["verification"] is None
    return out


@pytest.fixture(scope="module")
def pruned(base: Path) -> Path:
    out = base.with_name("pruned")
    options = ["--data", "digits", "--criterion", "l1", "--recover", "none", "--budget", "channels=0.5", "--latency"]
    made = secateur("prune", base, *options, "--out", out, "--json")
    assert made.code == 0, made.err
    assert made.record["out"] == str(out)
    timed = {"latency_ms", "iqr_ms", "speedup", "speedup_iqr", "threads", "batch"}
    assert set(made.record["after"]) == COSTS | timed | {"accuracy", "loss"}
    assert made.record["after"]["param_count"] == 15_738
    assert set(made.record["verification"]) == {"max_abs_diff", "relative_diff", "ok"}
    assert made.record["verification"]["ok"] is True
    return out


@pytest.fixture(scope="module")
def tuned(pruned: Path) -> Path:
    out = pruned.with_name("tuned")
    made = secateur("finetune", pruned, "--data", "digits", "--epochs", 4, "--out", out, "--json")
    assert made.code == 0, made.err
    before, after = made.record["before"], made.record["after"]
    assert after["accuracy"] > 0.93
    assert after["loss"] < before["loss"]
    assert after["param_count"] == before["param_count"] == 15_738
    return out


def test_the_tuned_folder_is_evaluated_alone(tuned: Path) -> None:
    found = secateur("evaluate", tuned, "--data", "digits", "--json")
    assert (found.code, found.err) == (0, "")
    assert set(found.record) == COSTS | {"accuracy", "loss"}
    assert found.record["accuracy"] > 0.93
    train = secateur("evaluate", tuned, "--data", "digits", "--split", "train", "--limit", 100, "--json")
    assert train.record["accuracy"] > 0.95


def test_the_tuned_folder_loads_in_python_without_a_factory(tuned: Path) -> None:
    model = sc.load(tuned)
    assert sum(parameter.numel() for parameter in model.parameters()) == 15_738
    assert model.fc2.out_features == 42


def test_verify_checks_the_folder_and_the_cut(base: Path, pruned: Path, tuned: Path) -> None:
    found = secateur("verify", pruned, "--original", base, "--json")
    assert found.code == 0, found.err
    assert found.record["ok"] is True
    assert found.record["weights_equal"] is True
    assert found.record["predicted_param_count"] == found.record["param_count"] == 15_738
    after = secateur("verify", tuned, "--original", "lenet5", "--weights", base / "model.safetensors", "--json")
    assert (after.code, after.record["weights_equal"]) == (0, False)


def test_weights_that_are_not_those_of_the_cut_are_exit_code_3(pruned: Path) -> None:
    found = secateur("verify", pruned, "--original", "lenet5", "--seed", 7)
    assert found.code == 3
    assert "NOT those of the cut" in found.out
    assert found.out.endswith("NOT VERIFIED\n")


def test_pruning_with_data_heals_and_says_what_each_stage_gave(base: Path, tmp_path: Path) -> None:
    made = secateur("prune", base, "--data", "digits", "--budget", "macs=0.1", "--out", tmp_path / "healed")
    assert made.code == 0, made.err
    assert "after cut: " in made.out
    assert "after joint: " in made.out
    plain = secateur("prune", base, "--data", "digits", "--budget", "macs=0.1", "--recover", "none", "--json")
    healed = secateur("evaluate", tmp_path / "healed", "--data", "digits", "--json")
    assert healed.record["accuracy"] > plain.record["after"]["accuracy"] + 0.02
    proved = secateur("verify", tmp_path / "healed", "--original", base, "--json")
    assert (proved.code, proved.record["weights_equal"]) == (0, False)


def test_pruning_again_goes_on_from_the_folder(tuned: Path, tmp_path: Path) -> None:
    made = secateur("prune", tuned, "--budget", "channels=0.5", "--out", tmp_path / "again", "--json")
    assert made.code == 0, made.err
    assert secateur("verify", tmp_path / "again", "--original", tuned).code == 0


def test_people_get_a_table_and_where_it_was_saved(base: Path, tmp_path: Path) -> None:
    made = secateur("prune", base, "--budget", "macs=0.5", "--out", tmp_path / "small")
    assert "param_count" in made.out
    assert "verified: differs from the reference by" in made.out
    assert made.out.endswith(f"saved to {tmp_path / 'small'}\n")
    unsaved = secateur("prune", base, "--budget", "macs=0.5")
    assert "--out DIR saves the result" in unsaved.err


def test_models_of_ones_own_take_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_models.py").write_text(
        "from torch import nn\n"
        "def net(num_classes=10):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    common = ["--data", "digits", "--limit", 300, "--epochs", 1]
    assert secateur("train", "own_models:net", *common, "--out", "base").code == 0
    refused = secateur("prune", "base", "--budget", "macs=0.5", "--out", "small")
    assert refused.code == 2
    assert "--factory own_models:net" in refused.err
    made = secateur("prune", "base", "--factory", "own_models:net", "--budget", "macs=0.5", "--out", "small")
    assert made.code == 0, made.err
    folder = ["verify", "small", "--factory", "own_models:net"]
    assert secateur(*folder, "--original", "base").code == 0
    named = ["--original", "own_models:net", "--weights", "base/model.safetensors", "--input-shape", "1,8,8"]
    assert secateur(*folder, *named).code == 0


def test_vgg16_on_cifar10(data_dir: Path, tmp_path: Path) -> None:
    data = ["--data", f"cifar10:{data_dir / 'cifar10-subset.npz'}", "--limit", 32]
    quick = [*data, "--max-steps", 2, "--batch-size", 8]
    assert secateur("train", "vgg16_bn", *quick, "--out", tmp_path / "base").code == 0
    cut = ["--criterion", "l1", "--recover", "none", "--budget", "channels=0.5", "--out", tmp_path / "pruned", "--json"]
    made = secateur("prune", tmp_path / "base", *data, *cut)
    assert (made.code, made.record["verification"]["ok"]) == (0, True), made.err
    assert secateur("finetune", tmp_path / "pruned", *quick, "--out", tmp_path / "tuned").code == 0
    assert "accuracy" in secateur("evaluate", tmp_path / "tuned", *data, "--json").record


def test_a_subset_of_mnist(data_dir: Path, tmp_path: Path) -> None:
    data = ["--data", f"mnist:{data_dir / 'mnist.npz'}", "--limit", 3000]
    assert secateur("train", "lenet5", *data, "--epochs", 3, "--out", tmp_path / "base").code == 0
    secateur("prune", tmp_path / "base", "--budget", "channels=0.5", "--criterion", "l1", "--out", tmp_path / "pruned")
    made = secateur("finetune", tmp_path / "pruned", *data, "--epochs", 1, "--out", tmp_path / "tuned", "--json")
    assert made.record["after"]["accuracy"] > 0.75, made.err


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_half_of_lenet5_keeps_its_accuracy_on_mnist(data_dir: Path, tmp_path: Path, seed: int) -> None:
    data = ["--data", f"mnist:{data_dir / 'mnist.npz'}", "--seed", seed]
    secateur("train", "lenet5", *data, "--epochs", 2, "--out", tmp_path / "base")
    cut = ["--criterion", "l1", "--budget", "channels=0.5", "--out", tmp_path / "pruned"]
    secateur("prune", tmp_path / "base", *data, *cut)
    secateur("finetune", tmp_path / "pruned", *data, "--epochs", 1, "--out", tmp_path / "tuned")
    assert secateur("evaluate", tmp_path / "tuned", *data, "--json").record["accuracy"] >= 0.985


def test_the_demo_compares_four_ways(tmp_path: Path) -> None:
    made = secateur("demo", "--repeats", 1, "--epochs", 4, "--out", tmp_path / "demo")
    assert made.code == 0, made.err
    lines = made.out.splitlines()
    assert [line[:25].strip() for line in lines[3:7]] == [
        "A: channels, retrained",
        "B: channels",
        "C: single weights, retrai",
        "D: single weights",
    ]
    assert [line.split(":")[0] for line in lines[11:16]] == [
        f"best by {measure}" for measure in ("accuracy", "macs", "file_bytes", "packed_bytes", "speedup")
    ]
    again = secateur("demo", "--repeats", 1, "--epochs", 4, "--out", tmp_path / "demo", "--json")
    rows = {row["cell"]: row for row in again.record["rows"]}
    assert "training" not in again.err
    assert {row["params_left"] for cell, row in rows.items() if "dense" not in cell} == {15_738}
    masked = sc.load(tmp_path / "demo" / "seed-0" / "single-weights-retrained")
    zeros = sum(int((parameter == 0).sum()) for parameter in masked.parameters())
    assert zeros == 61_706 - 15_738
    other = secateur("demo", "--repeats", 1, "--epochs", 2, "--out", tmp_path / "demo")
    assert other.code == 2
    assert "other options (epochs 2 -> 1, train_epochs 4 -> 2)" in other.err
