"""Lottery tickets: what is rewound, what stays zero, and what a killed run goes on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur.data import ImageSet, open_data
from secateur.sparse import sparsity
from secateur.train import TrainConfig, fit
from secateur.train.methods import lottery_tickets

CONFIG = TrainConfig(epochs=1, batch_size=64, learning_rate=0.05, max_steps=6)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return open_data("digits", "train").subset(512)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))


class Starts:
    """What the weights are before the first step of each round."""

    def __init__(self, model: nn.Module, steps: int) -> None:
        self.model, self.steps, self.done, self.seen = model, steps, 0, list[dict[str, Tensor]]()

    def step(self, take: Any) -> None:
        if self.done % self.steps == 0:
            self.seen.append(copied(self.model))
        take()
        self.done += 1


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def early(digits: ImageSet, steps: int) -> dict[str, Tensor]:
    """The weights after the first steps of the schedule, in a training that stops there."""
    model, seen, done = network(), dict[str, Tensor](), 0

    class Stop(Exception):
        pass

    class Stopping:
        def step(self, take: Callable[[], None]) -> None:
            nonlocal done
            take()
            done += 1
            if done == steps:
                seen.update(copied(model))
                raise Stop

    if steps == 0:
        return copied(model)
    with pytest.raises(Stop):
        fit(model, digits, config=CONFIG, methods=[Stopping()])
    return seen


@pytest.mark.parametrize("rewind_to", [0, 4])
def test_a_rewound_ticket_starts_from_the_early_weights(rewind_to: int, digits: ImageSet) -> None:
    model, expected = network(), early(digits, rewind_to)
    starts = Starts(model, 6)
    tickets = lottery_tickets(model, digits, config=CONFIG, rounds=2, rewind_to=rewind_to, methods=[starts])
    for ticket in tickets:
        begun = starts.seen[ticket.round]
        if ticket.round:
            for name, value in begun.items():
                assert torch.equal(value, expected[name] * ticket.masks.get(name, torch.ones(()))), name
        assert sparsity(model) == pytest.approx(1 - 0.8**ticket.round, abs=1e-3)
        ended = ticket
    result = sc.prune(
        model, torch.zeros(1, 1, 8, 8), granularity="element", budget={"sparsity": ended.sparsity}, allocator="global"
    )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), result.model.parameters(), strict=True))


def test_the_lowest_of_the_whole_network_go_and_stay_away(digits: ImageSet) -> None:
    model, before, gone = network(), dict[str, Tensor](), dict[str, Tensor]()
    for ticket in lottery_tickets(model, digits, config=CONFIG, rounds=3, share=0.5):
        if ticket.round:
            values = torch.cat([before[name].abs().flatten() for name in ticket.masks])
            cut = values.kthvalue(round(ticket.sparsity * len(values))).values
            for name, mask in ticket.masks.items():
                assert torch.equal(mask, before[name].abs() > cut)
                assert not (mask & gone.get(name, torch.zeros(()).bool())).any()
        gone = {name: ~mask for name, mask in ticket.masks.items()}
        before = copied(model)


def test_rewinding_the_rate_keeps_the_trained_weights(digits: ImageSet) -> None:
    model, last = network(), dict[str, Tensor]()
    starts = Starts(model, 6)
    for ticket in lottery_tickets(model, digits, config=CONFIG, rounds=2, rewind="rate", methods=[starts]):
        if ticket.round:
            for name, value in starts.seen[ticket.round].items():
                assert torch.equal(value, last[name] * ticket.masks.get(name, torch.ones(())))
        last = copied(model)


def test_a_killed_search_ends_as_one_that_was_not(digits: ImageSet, tmp_path: Path) -> None:
    def search(model: nn.Module, stop_after: int | None, folder: Path | None) -> None:
        asked = lottery_tickets(model, digits, config=CONFIG, rounds=2, rewind_to=2, checkpoint_dir=folder)
        for ticket in asked:
            if ticket.round == stop_after:
                break

    straight, killed, resumed = network(), network(), network()
    search(straight, None, None)
    search(killed, 1, tmp_path)
    search(resumed, None, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def test_what_makes_no_sense_is_refused(digits: ImageSet) -> None:
    with pytest.raises(sc.SecateurError, match="rounds=0"):
        lottery_tickets(network(), digits, config=CONFIG, rounds=0)
    with pytest.raises(sc.SecateurError, match="training took 6 steps"):
        list(lottery_tickets(network(), digits, config=CONFIG, rounds=1, rewind_to=100))
