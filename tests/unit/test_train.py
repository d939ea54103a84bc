"""The training loop, evaluation and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secateur.data import ImageSet, open_data
from secateur.models import build_model
from secateur.spec import ModelError, SecateurError, StoreError
from secateur.train import TrainConfig, evaluate, fit
from secateur.train.schedule import rate

QUICK = TrainConfig(epochs=3, batch_size=64, learning_rate=0.02)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return open_data("digits", "train")


def network(seed: int = 0) -> nn.Module:
    """A linear network with BatchNorm and dropout, so that buffers and random numbers matter too."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
        )


def same(first: nn.Module, second: nn.Module) -> bool:
    states = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in states)


def test_a_network_learns_digits(digits: ImageSet) -> None:
    model = build_model("lenet300", input_shape=digits.input_shape)
    before = evaluate(model, digits)
    history = fit(model, digits, config=replace(QUICK, learning_rate=0.05))
    after = evaluate(model, open_data("digits", "test"))
    assert before["accuracy"] < 0.3
    assert after["accuracy"] > 0.88
    assert after["loss"] < before["loss"]
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert history[-1]["steps"] == 3 * (len(digits) // 64)


def test_adamw_learns_too(digits: ImageSet) -> None:
    model = network()
    fit(model, digits, config=replace(QUICK, optimizer="adamw", schedule="cosine", learning_rate=0.01))
    assert evaluate(model, digits)["accuracy"] > 0.9


def test_the_seed_decides_the_result_and_nothing_else(digits: ImageSet) -> None:
    first, again, other = network(), network(), network()
    torch.manual_seed(11)
    before = torch.get_rng_state()
    fit(first, digits, config=QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    fit(again, digits, config=QUICK)
    fit(other, digits, config=replace(QUICK, seed=1))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(optimizer: Any, digits: ImageSet, tmp_path: Path) -> None:
    config = replace(QUICK, optimizer=optimizer, augment=True)
    straight, resumed = network(), network()
    history = fit(straight, digits, config=config)

    def interrupt(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(resumed, digits, config=config, on_epoch=interrupt, checkpoint_dir=tmp_path)
    resumed = network(seed=9)
    continued = fit(resumed, digits, config=config, checkpoint_dir=tmp_path)
    assert same(straight, resumed)
    assert [record["loss"] for record in continued] == [record["loss"] for record in history]
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    finished = network(seed=8)
    assert fit(finished, digits, config=config, checkpoint_dir=tmp_path) == continued
    assert same(straight, finished)


def test_checkpoints_that_do_not_fit_are_refused(digits: ImageSet, tmp_path: Path) -> None:
    fit(network(), digits, config=replace(QUICK, epochs=1), checkpoint_dir=tmp_path)
    with pytest.raises(StoreError, match="epochs 1 -> 3"):
        fit(network(), digits, config=QUICK, checkpoint_dir=tmp_path)
    with pytest.raises(StoreError, match="cannot resume"):
        fit(
            build_model("lenet300", input_shape=(1, 8, 8)),
            digits,
            config=replace(QUICK, epochs=1),
            checkpoint_dir=tmp_path,
        )
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(StoreError, match="delete it"):
        fit(network(), digits, config=replace(QUICK, epochs=1), checkpoint_dir=tmp_path)


def test_methods_run_around_each_step(digits: ImageSet) -> None:
    model = network()
    steps: list[int] = []

    class Masking:
        def step(self, take: Callable[[], None]) -> None:
            take()
            steps.append(1)
            with torch.no_grad():
                model.get_parameter("1.weight")[:16] = 0

    fit(model, digits, config=replace(QUICK, max_steps=7), methods=[Masking()])
    assert len(steps) == 7
    assert model.get_parameter("1.weight")[:16].abs().sum() == 0
    assert model.get_parameter("1.weight")[16:].abs().sum() > 0


def test_progress_goes_to_stderr_alone(digits: ImageSet, capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), digits, config=replace(QUICK, epochs=2))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("  ")[0] for line in err.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_evaluation_leaves_the_modes_as_they_were(digits: ImageSet) -> None:
    model = network()
    model[2].eval()
    first = evaluate(model, digits)
    assert model.training
    assert not model[2].training
    assert evaluate(model, digits, batch_size=100)["loss"] == pytest.approx(first["loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(digits: ImageSet) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("1.weight")[0, 0] = float("nan")
    with pytest.raises(SecateurError, match="after 0 of 66 steps"):
        fit(model, digits, config=QUICK)


def test_models_without_class_scores_are_refused(digits: ImageSet) -> None:
    with pytest.raises(ModelError, match="expected scores"):
        evaluate(nn.Identity(), digits)


def test_sets_smaller_than_a_batch_are_used_whole(digits: ImageSet) -> None:
    history = fit(network(), digits.subset(10), config=replace(QUICK, epochs=2))
    assert history[-1]["steps"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": 0}, "epochs=0"), ({"max_steps": 0}, "max_steps=0"), ({"schedule": "linear"}, "'linear'")],
)
def test_senseless_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SecateurError, match=message):
        TrainConfig(**options)


def test_schedules_rise_and_fall() -> None:
    one_cycle = [rate("one-cycle", step, 100) for step in range(100)]
    assert one_cycle[:31] == sorted(one_cycle[:31])
    assert one_cycle[30:] == sorted(one_cycle[30:], reverse=True)
    assert (one_cycle[0], one_cycle[30]) == (0.04, 1.0)
    assert 0 < one_cycle[-1] < 0.01
    assert rate("cosine", 0, 10) == 1.0
    assert {rate("constant", step, 10) for step in range(10)} == {1.0}
