"""Methods in the library's own loop: nested, checkpointed, and gone on with after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model
from secateur.train import TrainConfig, fit
from secateur.train.methods import (
    ADMM,
    Channels,
    GroupLasso,
    GrowingPenalty,
    HardConcreteGates,
    SparsitySchedule,
    UnitDropout,
    Weights,
    WeightsByMovement,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return build_model("lenet300", input_shape=(1, 8, 8))


def methods(model: nn.Module) -> list[Any]:
    """All that remember something, and all that draw random numbers, at once."""
    structure = sc.trace(model, torch.zeros(1, 1, 8, 8))
    channels = Channels(model, structure, budget={"channels": 0.5})
    return [
        GroupLasso(model, structure),
        ADMM(channels, every=5),
        GrowingPenalty(Weights(model, sparsity=0.5), every=3),
        HardConcreteGates(model, structure),
        UnitDropout(model, structure, ramp=30),
        SparsitySchedule(WeightsByMovement(model, sparsity=0.5), steps=20, every=4),
    ]


def test_a_killed_run_with_all_methods_ends_as_one_that_was_not(tmp_path: Path) -> None:
    data = open_data("digits", "train").subset(512)
    config = TrainConfig(epochs=3, batch_size=64, learning_rate=0.02)
    straight, killed, resumed = network(), network(), network()
    fit(straight, data, config=config, methods=methods(straight))

    def kill(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fit(killed, data, config=config, methods=methods(killed), checkpoint_dir=tmp_path, on_epoch=kill)
    fit(resumed, data, config=config, methods=methods(resumed), checkpoint_dir=tmp_path)
    pairs = zip(straight.named_parameters(), resumed.parameters(), strict=True)
    assert [name for (name, a), b in pairs if not torch.equal(a, b)] == []
