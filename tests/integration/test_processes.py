"""Several processes train one network: they end alike, and as one process would; the first alone has the output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, multiprocessing, nn

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model
from secateur.spec import SecateurError
from secateur.train import Distillation, TrainConfig, fit

SOURCES = str(Path(sc.__file__).parents[1])


def command(*arguments: object, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """`secateur ARGUMENTS` in a process of its own, or in several that torchrun starts."""
    together = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "PYTHONPATH": SOURCES, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, *together, "-m", "secateur", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_torchrun_trains_as_one_process_does(tmp_path: Path) -> None:
    training = ["train", "lenet5", "--data", "digits", "--epochs", 2, "--json", "--label-smoothing", 0.1]
    training += ["--mixup", 0.2, "--augment", "--accumulate", 2, "--channels-last", "--log-file"]
    alone = command(*training, tmp_path / "1.jsonl", "--out", tmp_path / "alone")
    together = command(*training, tmp_path / "2.jsonl", "--out", tmp_path / "together", processes=2)
    assert together.returncode == 0, together.stderr
    found, expected = (json.loads(done.stdout)["after"] for done in (together, alone))  # one object, of the first alone
    assert found == pytest.approx(expected, rel=1e-3)
    assert together.stderr.count("epoch 1/2") == together.stderr.count("training lenet5") == 1
    assert len((tmp_path / "2.jsonl").read_text().splitlines()) == 2
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("alone", "together")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


def test_what_is_no_training_the_first_process_does(tmp_path: Path) -> None:
    done = command("prune", "lenet5", "--budget", "macs=0.5", "--out", tmp_path / "a", "--json", processes=2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verification"]["ok"]


def _network() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))


class Half:
    """A method that holds the smaller half of a weight at zero, chosen by its gradients, too, in every step."""

    def __init__(self, model: nn.Module) -> None:
        self.weight = model.get_parameter("1.weight")
        self.stays = torch.ones_like(self.weight, dtype=torch.bool)

    def step(self, take: Callable[[], None]) -> None:
        assert self.weight.grad is not None
        scores = (self.weight.detach() * self.weight.grad).abs()
        take()
        self.stays = scores > scores.median()
        with torch.no_grad():
            self.weight *= self.stays


def _rank(rank: int, folder: str) -> None:
    """All that is held in one process must be alike in both: masks, averages, the decision to stop."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    images = open_data("digits", "train").subset(256)
    model, teacher = _network(), build_model("lenet300", input_shape=(1, 8, 8))
    half = Half(model)
    history = fit(
        model,
        images,
        config=TrainConfig(epochs=8, batch_size=64, ema=0.5, early_stopping=2, learning_rate=1.0),
        validation=open_data("digits", "test"),
        distillation=Distillation(model, teacher, alpha=0.1),
        methods=[half],
        checkpoint_dir=Path(folder) / "kept",
    )
    with pytest.raises(SecateurError, match="cannot be shared evenly by 2 processes"):
        fit(_network(), images, config=TrainConfig(batch_size=63))
    record = {"model": model.state_dict(), "masks": {"1.weight": half.stays}, "history": history}
    torch.save(record, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
    os._exit(0)  # threads of gloo that still let go of tensors abort an interpreter that comes to its end


def test_processes_end_alike(tmp_path: Path) -> None:
    multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert [record["loss"] for record in first["history"]] == [record["loss"] for record in second["history"]]
    for kind in ("model", "masks"):
        assert all(torch.equal(value, second[kind][name]) for name, value in first[kind].items())
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["checkpoint.safetensors"]
