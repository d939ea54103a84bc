"""Dropout that is aimed: weights and units that will be pruned are the ones that training learns to do without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.sparse import prunable_weights
from secateur.sparse.masks import layouts
from secateur.spec import BudgetError, Structure
from secateur.train.methods.groups import Groups
from secateur.train.methods.reading import Reading

Odds = Callable[[Tensor], Tensor]
"""From the norms of the groups of an axis `(groups,)` to the probabilities with which they are dropped."""


def lowest(share: float = 0.5, rate: float = 0.5) -> Odds:
    """The `share` of the groups with the lowest norms is dropped with probability `rate`, the others never."""
    _demand_shares(share=share, rate=rate)

    def odds(norms: Tensor) -> Tensor:
        going = norms.topk(int(share * len(norms)), largest=False).indices
        return torch.zeros_like(norms).index_fill(0, going, rate)

    return odds


def by_rank(rate: float = 0.25) -> Odds:
    """From 0 for the largest norm to twice `rate` for the smallest, in equal steps."""
    _demand_shares(rate=rate, twice_the_rate=2 * rate)

    def odds(norms: Tensor) -> Tensor:
        rank = norms.argsort(descending=True).argsort().to(norms)
        return 2 * rate * rank / max(1, len(norms) - 1)

    return odds


class _Dropout(ABC):
    """What is dropped is drawn anew for every forward in train mode, with torch's global generator."""

    def __init__(self, model: nn.Module, ramp: int) -> None:
        self._done, self._ramp = 0, ramp
        self._reading = Reading(model, lambda training: self._factors() if training else {})

    @abstractmethod
    def _factors(self) -> Mapping[str, Tensor]:
        """By weight, what its entries are multiplied with."""

    @property
    def strength(self) -> float:
        """Share of the full probabilities by now: 1 after the ramp."""
        return min(1.0, self._done / self._ramp) if self._ramp else 1.0

    def step(self, take: Callable[[], None]) -> None:
        take()
        self._done += 1

    def finish(self) -> None:
        """Drop no more; the weights are as they are."""
        self._reading.remove()

    def state_dict(self) -> dict[str, Any]:
        return {"done": self._done}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._done = int(state["done"])


class WeightDropout(_Dropout):
    """Targeted dropout of weights (Learning Sparse Networks Using Targeted Dropout, 2019): of each output's weights the
    `share` with the lowest magnitudes is dropped with probability `rate`, nothing is scaled up for it.

    ramp: steps in which the probability rises from 0; in the paper the share rises too. Raises BudgetError for shares
    outside 0 to 1.
    """

    def __init__(self, model: nn.Module, *, share: float = 0.75, rate: float = 0.66, ramp: int = 0) -> None:
        _demand_shares(share=share, rate=rate)
        self._weights, self._layouts = prunable_weights(model), layouts(model)
        self._share, self._rate = share, rate
        super().__init__(model, ramp)

    def _factors(self) -> Mapping[str, Tensor]:
        return {name: self._kept(name, weight.detach()) for name, weight in self._weights.items()}

    def _kept(self, name: str, weight: Tensor) -> Tensor:
        rows = self._layouts[name].matrix(weight.abs())
        going = rows.topk(int(self._share * rows.shape[1]), dim=1, largest=False, sorted=False).indices
        survive = (torch.rand(going.shape, device=rows.device) >= self._rate * self.strength).to(rows)
        return self._layouts[name].tensor(torch.ones_like(rows).scatter(1, going, survive))


class UnitDropout(_Dropout):
    """Dropout of whole groups of the structure, where they are read: a dropped unit is zero for all that read it.

    - `odds=lowest(share, rate)`: targeted dropout of units (the same paper); norms are those of the whole group.
    - `odds=by_rank(rate)`: structured DropConnect, with probabilities that follow the magnitudes. No text of it was to
      be had; the linear rule is ours.

    Nothing is scaled up for what is dropped, as in the paper. ramp: as of `WeightDropout`.
    """

    def __init__(self, model: nn.Module, structure: Structure, *, odds: Odds | None = None, ramp: int = 0) -> None:
        self._groups, self._odds = Groups(model, structure), odds or lowest()
        super().__init__(model, ramp)

    def _factors(self) -> Mapping[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for axis, norms in self._groups.norms().items():
            kept[axis] = (torch.rand_like(norms) >= self._odds(norms) * self.strength).to(norms)
        return self._groups.spread(kept, readers=True)


def _demand_shares(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise BudgetError(f"dropout: got {name.replace('_', ' ')}={value}, expected 0 to 1")
