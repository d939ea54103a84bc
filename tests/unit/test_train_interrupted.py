"""Runs that end before their time: what is kept, what the message says, and that the next run ends alike."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import secateur
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from secateur.data import ImageSet, open_data
from secateur.spec import DataError, SecateurError, StoreError
from secateur.spec.errors import WriteError
from secateur.train import TrainConfig, fit

FILE = "checkpoint.safetensors"
QUICK = TrainConfig(epochs=4, batch_size=64, learning_rate=0.02)
EVERYTHING = replace(
    QUICK,
    augment=True,
    mixup=0.2,
    label_smoothing=0.1,
    class_weights="balanced",
    ema=0.9,
    accumulate=2,
    precision="fp16",
    early_stopping=3,
)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return open_data("digits", "train").subset(256)


def network(seed: int = 0) -> nn.Module:
    """Its gradients are so large that fp16 has to scale the loss down, which the next run must know of."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        norm = nn.BatchNorm1d(32)
        nn.init.constant_(norm.weight, 50.0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), norm, nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))


class Drifting:
    """A method with a memory: adds to a bias what it has counted so far."""

    def __init__(self, model: nn.Module) -> None:
        self.bias = model.get_parameter("5.bias")
        self.steps = 0
        self.drift = torch.zeros(10)

    def step(self, take: Callable[[], None]) -> None:
        take()
        self.steps += 1
        self.drift[self.steps % 10] += 1e-3
        with torch.no_grad():
            self.bias += self.drift

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "drift": self.drift}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps, self.drift = state["steps"], state["drift"]


def run_with_everything(model: nn.Module, folder: Path, on_epoch: Callable[[dict[str, Any]], object]) -> list[Any]:
    return fit(
        model,
        open_data("digits", "train").subset(256),
        config=EVERYTHING,
        methods=[Drifting(model)],
        validation=open_data("digits", "test"),
        on_epoch=on_epoch,
        checkpoint_dir=folder,
    )


def killed_run(folder: Path) -> None:
    """Dies in the middle of the third epoch as a machine does that loses its power."""
    model, epochs = network(), []
    run_hook: list[int] = []

    def die(_module: nn.Module, _inputs: Any) -> None:
        run_hook.append(1)
        if model.training and len(epochs) == 2 and len(run_hook) > 2:
            os.kill(os.getpid(), signal.SIGKILL)

    model.register_forward_pre_hook(die)

    def note(record: dict[str, Any]) -> None:
        epochs.append(record)
        run_hook.clear()

    run_with_everything(model, folder, note)


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    straight, resumed = network(), network(seed=9)
    history = run_with_everything(straight, tmp_path / "straight", lambda _: None)
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_train_interrupted as t; from pathlib import Path"
    script = f"{code}; t.killed_run(Path({str(tmp_path / 'killed')!r}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    died = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, timeout=120, check=False
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    told: list[int] = []
    continued = run_with_everything(resumed, tmp_path / "killed", lambda record: told.append(record["epoch"]))
    assert told == [3, 4]
    assert [record["loss"] for record in continued] == [record["loss"] for record in history]
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    finished = network(seed=7)
    assert run_with_everything(finished, tmp_path / "killed", lambda _: None) == continued
    assert torch.equal(finished.get_parameter("1.weight"), straight.get_parameter("1.weight"))


def test_a_run_that_gave_up_stays_over(digits: ImageSet, tmp_path: Path) -> None:
    config = replace(QUICK, learning_rate=0.0, early_stopping=1)  # no epoch is better than the first
    models = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2)]
    runs = [fit(model, digits, config=config, validation=digits, checkpoint_dir=tmp_path) for model in models]
    assert len(runs[0]) == 2
    assert runs[0] == runs[1]


def test_methods_belong_to_their_run(digits: ImageSet, tmp_path: Path) -> None:
    model = network()
    fit(model, digits, config=QUICK, methods=[Drifting(model)], checkpoint_dir=tmp_path)
    with pytest.raises(StoreError, match="method-0-Drifting"):
        fit(network(), digits, config=QUICK, checkpoint_dir=tmp_path)


def stops_after(epochs: int, error: type[BaseException]) -> Callable[[dict[str, Any]], None]:
    """Raises when the next epoch is told."""

    def on_epoch(record: dict[str, Any]) -> None:
        if record["epoch"] > epochs:
            raise error

    return on_epoch


def test_ctrl_c_says_what_is_kept(digits: ImageSet, tmp_path: Path) -> None:
    interrupt = stops_after(2, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt, match=rf"in epoch 3 of 4; epoch 2 is kept in {tmp_path}"):
        fit(network(), digits, config=QUICK, on_epoch=interrupt, checkpoint_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt, match="nothing is kept; with a checkpoint_dir"):
        fit(network(), digits, config=QUICK, on_epoch=interrupt)
    history = fit(network(), digits, config=QUICK, checkpoint_dir=tmp_path)
    assert [record["epoch"] for record in history] == [1, 2, 3, 4]


def test_ctrl_c_on_the_command_line_is_one_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("secateur.train.stepping.Stepper.step", interrupt)
    found = secateur("train", "lenet300", "--data", "digits", "--limit", 128, "--out", tmp_path / "out")
    assert (found.code, found.out) == (130, "")
    assert "secateur: training was interrupted after 0 of 20 steps, in epoch 1 of 10; nothing is kept" in found.err
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(
    digits: ImageSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Breaking:
        """Breaks the weights in the last step of the third epoch: its loss was still fine."""

        def __init__(self, model: nn.Module, at: int) -> None:
            self.bias, self.at = model.get_parameter("5.bias"), at

        def step(self, take: Callable[[], None]) -> None:
            take()
            self.at -= 1
            if self.at == 0:
                with torch.no_grad():
                    self.bias.fill_(float("nan"))

    model = network()
    with pytest.raises(SecateurError, match=r"5\.bias holds values that are not finite; .* epoch 2 is kept in"):
        fit(model, digits, config=QUICK, methods=[Breaking(model, at=12)], checkpoint_dir=tmp_path)
    assert all(bool(tensor.isfinite().all()) for tensor in load_file(tmp_path / FILE).values())
    model = network()
    with pytest.raises(
        SecateurError, match=r"after 10 of 16 steps, in epoch 3 of 4: the loss is nan; lower .* epoch 2 is kept"
    ):
        fit(model, digits, config=QUICK, methods=[Breaking(model, at=2)], checkpoint_dir=tmp_path)
    capsys.readouterr()
    lower = replace(QUICK, learning_rate=0.01)
    history = fit(network(), digits, config=lower, checkpoint_dir=tmp_path)
    assert history[-1]["epoch"] == 4
    assert "going on after epoch 2 with learning_rate 0.02 -> 0.01" in capsys.readouterr().err


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_good_checkpoint(digits: ImageSet, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(network(), digits, config=QUICK, on_epoch=stops_after(2, KeyboardInterrupt), checkpoint_dir=tmp_path)
    kept = (tmp_path / FILE).read_bytes()
    with (
        pytest.raises(WriteError, match=r"cannot write .*File too large.*; make room; epoch 2 is kept"),
        room_for(2000),
    ):
        fit(network(), digits, config=QUICK, checkpoint_dir=tmp_path)
    assert (tmp_path / FILE).read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert len(fit(network(), digits, config=QUICK, checkpoint_dir=tmp_path)) == 4


def test_a_full_disk_on_the_command_line_is_one_message(tmp_path: Path) -> None:
    training = ["train", "lenet300", "--data", "digits", "--limit", 64, "--epochs", 1]
    with room_for(2000):
        found = secateur(*training, "--checkpoint-dir", tmp_path / "kept", "--out", tmp_path / "out")
    assert (found.code, found.out) == (1, "")
    assert found.err.splitlines()[-1].startswith(
        "secateur: training stopped after 1 of 1 steps, in epoch 1 of 1: cannot"
    )
    assert not (tmp_path / "out").exists()


class Deadly(Dataset[tuple[Tensor, Tensor]]):
    """Images whose worker dies at the third epoch, where `dies` says so."""

    def __init__(self, images: ImageSet, *, dies: bool) -> None:
        self.parts = next(images.batches(len(images)))
        self.dies = dies

    def __len__(self) -> int:
        return len(self.parts[1])

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.parts[0][number], self.parts[1][number]


def test_a_dead_data_worker_leaves_the_last_good_checkpoint(digits: ImageSet, tmp_path: Path) -> None:
    images = Deadly(digits, dies=False)

    def poison(record: dict[str, Any]) -> None:
        images.dies = record["epoch"] == 1

    def loader() -> DataLoader[Any]:
        return DataLoader(images, batch_size=64, shuffle=True, num_workers=1)

    config = replace(QUICK, epochs=2)
    expected = "batch 1 of the data cannot be read: RuntimeError: .*exited unexpectedly.*; epoch 1 is kept"
    with pytest.raises(DataError, match=expected):
        fit(network(), loader(), config=config, on_epoch=poison, checkpoint_dir=tmp_path)
    images.dies = False
    resumed, straight = network(), network()
    fit(resumed, loader(), config=config, checkpoint_dir=tmp_path)
    fit(straight, loader(), config=config)
    assert torch.equal(resumed.get_parameter("1.weight"), straight.get_parameter("1.weight"))
