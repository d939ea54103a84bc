"""Lottery tickets: train, prune a part of what is left, go back to early weights, and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from secateur.data import ImageSet
from secateur.sparse import prunable_weights
from secateur.sparse.allocation import WEIGHT_ALLOCATORS
from secateur.sparse.making import Request, make_masks
from secateur.sparse.masks import Masks, layouts
from secateur.sparse.pattern import Pattern
from secateur.spec import BudgetError
from secateur.train.config import TrainConfig
from secateur.train.loop import fit
from secateur.train.method import Method
from secateur.train.methods.state import under

Rewind = Literal["weights", "rate"]


class EarlyWeights:
    """Keeps a copy of a model's state as it is after so many steps; 0 is as it is given."""

    def __init__(self, model: nn.Module, *, at: int) -> None:
        self._model, self._at, self.done = model, at, 0
        self.early: dict[str, Tensor] = {}
        """Parameters and buffers by name; empty before that step."""
        self._keep()

    def step(self, take: Callable[[], None]) -> None:
        take()
        self.done += 1
        self._keep()

    def _keep(self) -> None:
        if self.done == self._at:
            self.early = {name: value.detach().clone() for name, value in self._model.state_dict().items()}

    def restore(self) -> None:
        """Put the copy back."""
        self._model.load_state_dict(self.early)

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done, **{f"early.{name}": value for name, value in self.early.items()}}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self.done = int(state["done"])
        self.early = under("early.", state, self._model.state_dict())


@dataclass(frozen=True)
class Ticket:
    """What a round ends with: the model holds its trained weights until the next round is asked for."""

    round: int
    """0 is the dense network."""
    sparsity: float
    masks: Masks
    """By parameter; those of round 0 keep everything."""


def lottery_tickets(
    model: nn.Module,
    data: ImageSet,
    *,
    config: TrainConfig,
    rounds: int,
    share: float = 0.2,
    rewind: Rewind = "weights",
    rewind_to: int = 0,
    methods: Sequence[Method] = (),
    checkpoint_dir: str | Path | None = None,
) -> Iterator[Ticket]:
    """Iterative magnitude pruning with rewinding; the model is trained in place, and yielded from once per round.

        for ticket in lottery_tickets(model, train, config=config, rounds=5, rewind_to=100):
            print(f"{ticket.sparsity:.0%}", evaluate(model, test))

    Each round removes `share` of the weights that are left, the lowest magnitudes of the whole network, and trains by
    `config` again, holding the zeros. `rewind="weights"` first puts the weights that stay, and all else, back to what
    they were after `rewind_to` steps of round 0 (0: The Lottery Ticket Hypothesis, 2018; later: Stabilizing the
    Lottery Ticket Hypothesis, 2019). `"rate"` keeps the trained weights and goes back in the learning rate alone
    (Comparing Rewinding and Fine-tuning in Neural Network Pruning, 2020). Every round runs the whole schedule, where
    the papers run it from step `rewind_to` on; the last layer is pruned like the others.

    methods: around every step of every round. checkpoint_dir: each round that is done, or under way, is not trained
    again by a run that was killed. Stop asking, and the model stays as the last ticket has it; `prune` by magnitude to
    the ticket's sparsity, with one threshold, takes the very zeros over. Raises BudgetError for numbers that make no
    sense.
    """
    if not (rounds >= 1 and 0 < share < 1 and rewind in ("weights", "rate") and rewind_to >= 0):
        raise BudgetError(
            f"lottery tickets: got rounds={rounds}, share={share}, rewind={rewind!r}, rewind_to={rewind_to}; expected "
            "at least one round, a share between 0 and 1, 'weights' or 'rate', and a step from 0 on"
        )
    early = EarlyWeights(model, at=rewind_to)
    folder = None if checkpoint_dir is None else Path(checkpoint_dir)

    def trained(number: int, masks: Masks) -> Ticket:
        own = None if folder is None else folder / f"round-{number}"
        fit(model, data, config=config, masks=masks, methods=[*methods, early], checkpoint_dir=own)
        return Ticket(number, 1 - (1 - share) ** number, masks)

    def all_rounds() -> Iterator[Ticket]:
        yield trained(0, {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable_weights(model).items()})
        if not early.early:
            raise BudgetError(
                f"lottery tickets: training took {early.done} steps and never came to rewind_to={rewind_to}; rewind to "
                "an earlier step"
            )
        for number in range(1, rounds + 1):
            masks = _lowest_go(model, 1 - (1 - share) ** number)
            if rewind == "weights":
                early.restore()
            yield trained(number, masks)

    return all_rounds()


def _lowest_go(model: nn.Module, sparsity: float) -> dict[str, Tensor]:
    """What an earlier round removed is zero, and so goes first."""
    values = {name: weight.detach() for name, weight in prunable_weights(model).items()}
    request = Request(Pattern("element"), sparsity, WEIGHT_ALLOCATORS.get("global"), {})
    return make_masks({name: value.abs() for name, value in values.items()}, values, layouts(model), request)
