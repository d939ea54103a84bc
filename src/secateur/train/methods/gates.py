"""L0 regularisation: a gate on every group, learned together with the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log
from typing import Any

import torch
from torch import Tensor, distributed, nn

from secateur.score import Question
from secateur.spec import ScoreError, Structure
from secateur.train.methods.groups import Groups
from secateur.train.methods.reading import Reading

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""beta, gamma and zeta of the paper."""


class HardConcreteGates:
    """A gate z in [0, 1] on what each group puts out, where it is read (Learning Sparse Neural Networks through L0
    Regularization, 2018).

    In train mode `z = clamp(s (zeta - gamma) + gamma, 0, 1)` with `s = sigmoid((log u - log(1 - u) + log alpha) /
    beta)`, u uniform, drawn once per forward (eq. 10-12); in eval mode u is left out and beta is 1 (eq. 13). The
    penalty is `strength` times the share of the entries of all groups whose gate is expected to be open (eq. 15, over
    the sum). The gates learn by an Adam of their own. `finish()` folds them into the weights that read, with exact
    zeros; the object is then a criterion, with the gates as scores. Groups that no product of weights reads have none,
    and stay whole.

        gates = HardConcreteGates(model, structure)
        fit(model, data, config=..., methods=[gates])
        gates.finish()
        small = prune(model, inputs, budget={"macs": 0.5}, criterion=gates, allocator="global").model

    Not for loops that scale the loss (float16), which the gates' own optimizer would not hear of.
    """

    def __init__(
        self,
        model: nn.Module,
        structure: Structure,
        *,
        strength: float = 0.1,
        learning_rate: float = 0.02,
        open_at_first: float = 0.9,
    ) -> None:
        """strength: the penalty, in units of the loss, for all gates open. open_at_first: probability that a gate is
        not zero at first, in (0, 1)."""
        self.groups, self.strength = Groups(model, structure), strength
        read = {place.axis for place in self.groups.places if place.reads}
        self._axes = tuple(axis for axis in self.groups.axes if axis.name in read)
        sizes = [len(self.groups.counts[axis.name]) for axis in self._axes]
        first = log(open_at_first / (1 - open_at_first)) + TEMPERATURE * log(-LOW / HIGH)
        self.log_alpha = torch.full((sum(sizes),), first, requires_grad=True)
        self._sizes = sizes
        counts = torch.cat([self.groups.counts[axis.name] for axis in self._axes])
        self._weight = counts / counts.sum()
        self._optimizer = torch.optim.Adam([self.log_alpha], lr=learning_rate)
        self._reading = Reading(model, self._factors)

    def open(self) -> Tensor:
        """The probability that each gate is not zero, `(groups,)` over all axes."""
        return torch.sigmoid(self.log_alpha - TEMPERATURE * log(-LOW / HIGH))

    def gates(self) -> dict[str, Tensor]:
        """The gates as eval mode has them, `(groups,)` by axis."""
        return self._by_axis(_stretched(torch.sigmoid(self.log_alpha.detach())))

    def step(self, take: Callable[[], None]) -> None:
        self._follow()
        with torch.enable_grad():
            penalty = self.strength * (self._weight.to(self.log_alpha) * self.open()).sum()
            penalty.backward()
        _average(self.log_alpha.grad)
        self._optimizer.step()
        self._optimizer.zero_grad()
        take()

    def finish(self) -> None:
        """Take the gates off for good: what reads a group is multiplied by its gate, so that the model computes what it
        did in eval mode."""
        self._reading.remove()
        with torch.no_grad():
            for name, factor in self.groups.spread(self.gates(), readers=True).items():
                self.groups.parameters[name].mul_(factor)

    def __call__(self, question: Question) -> dict[str, Tensor]:
        """log alpha as scores; raises ScoreError for a structure of another network."""
        if question.structure.fingerprint != self.groups.structure.fingerprint:
            raise ScoreError("the gates were learned on another network; score the one that they were made for")
        values = self._by_axis(self.log_alpha.detach())
        return {axis.name: self.groups.shaped(axis, values[axis.name]) for axis in self._axes}

    def _factors(self, training: bool) -> Mapping[str, Tensor]:
        self._follow()
        return self.groups.spread(self._by_axis(self._drawn()) if training else self.gates(), readers=True)

    def _drawn(self) -> Tensor:
        noise = torch.rand_like(self.log_alpha).clamp(1e-6, 1 - 1e-6).logit()
        return _stretched(torch.sigmoid((noise + self.log_alpha) / TEMPERATURE))

    def _by_axis(self, values: Tensor) -> dict[str, Tensor]:
        return {axis.name: part for axis, part in zip(self._axes, values.split(self._sizes), strict=True)}

    def _follow(self) -> None:
        """To where the model is by now."""
        device = next(iter(self.groups.parameters.values())).device
        if self.log_alpha.device != device:
            self.log_alpha.data = self.log_alpha.data.to(device)

    def state_dict(self) -> dict[str, Any]:
        adam = self._optimizer.state_dict()["state"].get(0, {})
        return {"log_alpha": self.log_alpha.detach(), **{f"adam.{name}": value for name, value in adam.items()}}

    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        self._follow()
        self.log_alpha.data.copy_(state["log_alpha"])
        adam = {name.removeprefix("adam."): value for name, value in state.items() if name.startswith("adam.")}
        if adam:
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": {0: adam}})


def _average(gradient: Tensor | None) -> None:
    """Over the processes that train together, each of which draws its own gates."""
    if gradient is not None and distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(gradient)
        gradient /= distributed.get_world_size()


def _stretched(s: Tensor) -> Tensor:
    return (s * (HIGH - LOW) + LOW).clamp(0, 1)
