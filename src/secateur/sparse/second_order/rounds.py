"""Pruning a network in rounds: remove what costs least, make up for it within each layer, then in the whole network.

Each round removes a share of what is left, as Fast as CHITA (2023, section 3.3) does, and looks at the network anew:

1. `E[x x^T]` of what each layer reads, now that what is before it is pruned.
2. What removing each weight costs when the others of its row make up for it (Optimal Brain Surgeon), in units of the
   divergence of the network's outputs: each row counts as much as the squared gradients of its weights say. One
   threshold holds for the whole network. The cheapest weights go, a few at a time, and the rows are fitted again.
3. Steps of all weights that are left, in closed form, towards the outputs of the reference network, once the data has
   enough to say about each of them; a step that does not bring the outputs nearer is taken back.

No label is read and no descent along gradients is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, log

import torch
from torch import Tensor

from secateur.sparse.pattern import Pattern
from secateur.sparse.second_order.gauss_newton import enough_directions
from secateur.sparse.second_order.layers import Layer
from secateur.sparse.second_order.obs import damped, refit, removal_costs
from secateur.sparse.second_order.settling import Rows, Task, matters, settle_
from secateur.sparse.select import keep_highest

ROUND = 0.25
"""Share of the weights left that a round removes, at most."""
WEIGHTS_PER_DIRECTION = 48
"""In steps of the whole network, at most; fewer directions say too little about too many weights."""
TURN = 0.1
"""Share of the weights left that go at once within a round, at most."""


@dataclass(frozen=True)
class Goal:
    """Weights among which one threshold decides, and how many of them are to stay in the end."""

    names: tuple[str, ...]
    keep: int


def prune_in_rounds(task: Task, goals: Sequence[Goal], pattern: Pattern) -> Rows:
    """Set weights of the model to zero and change the others; returns which are kept. Zeros stay zero."""
    kept = {name: _kept_now(layer) for name, layer in task.layers.items()}
    for wanted in _schedule(goals, kept, pattern):
        hessians, counts = task.look()
        values = {name: layer.values() for name, layer in task.layers.items()}
        solvable = {name: damped(hessian).float() for name, hessian in hessians.items()}
        wanted.remove(task.layers, solvable, counts, values, kept)
        for name, layer in task.layers.items():
            layer.write_(task.model, values[name])
        left = sum(int(mask.sum()) for mask in kept.values())
        if enough_directions(task.samples, left, WEIGHTS_PER_DIRECTION):
            settle_(task, kept, {name: matters(hessians[name], counts[name]) for name in kept})
    return kept


def _kept_now(layer: Layer) -> Tensor:
    kept = layer.values() != 0
    kept[:, -1] = layer.constant is not None
    return kept


# What goes in each round.


@dataclass(frozen=True)
class _Single:
    """Single weights, so that each goal keeps so many."""

    goals: Sequence[Goal]

    def remove(self, layers: Mapping[str, Layer], hessians: Rows, counts: Rows, values: Rows, kept: Rows) -> None:
        """Change values and masks, a few weights at a time."""
        turns = max((_steps(_left(kept, goal.names), goal.keep, TURN) for goal in self.goals), default=0)
        for turns_left in range(turns, 0, -1):
            for goal in self.goals:
                costs = [_costs(name, hessians, counts, values, kept) for name in goal.names]
                left = _between(_left(kept, goal.names), goal.keep, turns_left)
                total = sum(cost.numel() for cost in costs)
                for name, mask in zip(goal.names, keep_highest(costs, total - left), strict=True):
                    kept[name][:, :-1] &= mask
            for name in layers:
                values[name] = refit(hessians[name], values[name], kept[name])


@dataclass(frozen=True)
class _InGroups:
    """All but N of M weights."""

    pattern: Pattern

    def remove(self, layers: Mapping[str, Layer], hessians: Rows, counts: Rows, values: Rows, kept: Rows) -> None:
        """Change values and masks."""
        for name, layer in layers.items():
            costs = layer.layout.tensor(_costs(name, hessians, counts, values, kept))
            kept[name][:, :-1] &= layer.layout.matrix(self.pattern.keep_in_groups(costs, layer.layout))
            values[name] = refit(hessians[name], values[name], kept[name])


def _costs(name: str, hessians: Rows, counts: Rows, values: Rows, kept: Rows) -> Tensor:
    """What removing each weight costs, `(R, C)`: minus infinity where it is removed already; the dearest of a weight
    tensor is never removed."""
    costs = removal_costs(hessians[name], values[name], kept[name])[:, :-1] * counts[name][:, None]
    costs = costs.masked_fill(~kept[name][:, :-1], -torch.inf)
    costs.view(-1)[costs.argmax()] = torch.inf
    return costs


def _schedule(goals: Sequence[Goal], kept: Rows, pattern: Pattern) -> list[_Single] | list[_InGroups]:
    if pattern.keep_per_group is not None:
        keep, size = pattern.keep_per_group
        return [_InGroups(replace(pattern, sizes=(count, size))) for count in range(size - 1, keep - 1, -1)]
    start = {goal: _left(kept, goal.names) for goal in goals}
    rounds = max((_steps(start[goal], goal.keep, ROUND) for goal in goals), default=0)
    return [
        _Single(
            [replace(goal, keep=round(start[goal] * (goal.keep / start[goal]) ** (done / rounds))) for goal in goals]
        )
        for done in range(1, rounds + 1)
    ]


def _left(kept: Rows, names: Sequence[str]) -> int:
    return sum(int(kept[name][:, :-1].sum()) for name in names)


def _steps(now: int, then: int, share: float) -> int:
    """How often at most this share of what is left has to go."""
    return ceil(log(then / now) / log(1 - share) - 1e-9) if then < now else 0


def _between(now: int, then: int, steps: int) -> int:
    """What is left after the next of so many steps of equal share."""
    return round(now * (then / now) ** (1 / steps)) if then < now else now
