"""Every layer of a smaller network fitted again, in the order of the forward: from what it reads now, it is to make
what the dense network makes.

Least squares per layer (Channel Pruning for Accelerating Very Deep Neural Networks, 2017, eq. 5), with what the smaller
network reads on the one side and what the dense one makes on the other, so that each layer also makes up for what is
wrong before it; the last layer of a residual block makes up for its shortcut, too. The ridge pulls to the weights that
are there, not to zero. A constant goes into the layer's bias, or into the mean of the BatchNorm behind it.

Both networks stand at the same layer at the same time, so that no more activations are alive than their forwards hold
at that point. Suffixes of shapes: N samples, P places, G groups, R outputs, O outputs of a group, D columns and a
constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from secateur.recover.pairs import Pair, find_pairs
from secateur.recover.shortcuts import Keeping, Shortcut, find_shortcuts
from secateur.score.gradients import Batch, first_batch
from secateur.score.progress import tracked
from secateur.sparse.paused import PausedForward, Pausing, in_order
from secateur.spec import Plan
from secateur.structure.capture import Inputs, as_captured, capture_with_values
from secateur.structure.modes import eval_mode
from secateur.structure.program import Program

DAMPING = 1e-3
"""Share of the mean of the diagonal of E[x x^T] with which a weight is pulled to where it was."""

Solver = Callable[..., Tensor]
"""Rows of a layer from its moments, as `fit` makes them."""


@dataclass(frozen=True)
class Side:
    """One of the two networks, and what to keep of its forward."""

    model: nn.Module
    program: Program
    shortcuts: Mapping[str, Shortcut]

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs) -> Side:
        few = tree_map(lambda leaf: leaf[:2] if isinstance(leaf, Tensor) and leaf.dim() else leaf, inputs)
        program = capture_with_values(model, few)
        return cls(model, program, find_shortcuts(program))

    def start(self, inputs: Inputs) -> Running:
        keeping = Keeping(self.program, {found.operand for found in self.shortcuts.values()})
        return Running(PausedForward(self.model, inputs, keeping), keeping, self)


@dataclass(frozen=True)
class Running:
    """A forward of one side."""

    forward: PausedForward
    keeping: Keeping
    side: Side

    def go_to(self, name: str) -> bool:
        """Run on to the call of this layer; False where it does not come."""
        while self.forward.at_start or self.forward.name not in (name, None):
            self.forward.proceed()
        return self.forward.name == name

    def shortcut(self, name: str) -> Tensor | None:
        """What will be added to the layer's output, where that is known."""
        found = self.side.shortcuts.get(name)
        return None if found is None else self.keeping.values.get(found.operand)


def refit_(
    small: nn.Module,
    dense: nn.Module,
    plan: Plan,
    data: Sequence[Batch],
    generator: torch.Generator,
    *,
    damping: float = DAMPING,
    solver: Solver | None = None,
    kept: Mapping[str, Tensor] | None = None,
) -> list[str]:
    """Fit the layers of the smaller network in place; returns the weights that were fitted, in their order.

    plan: what the smaller network was cut by. data: calibration batches; labels are not read. solver: what solves for a
    layer; `fit` where nothing is said. kept: of some weights, of their shapes, False at zeros that stay. Layers that no
    data reaches, and weights that are no linear layer or convolution of their own, stay as they are.
    Raises ScoreError where there is no batch.
    """
    first_batch(data)
    with eval_mode(small, dense):
        return _refit_(small, dense, plan, data, generator, partial(solver or fit, damping=damping), kept or {})


def _refit_(
    small: nn.Module,
    dense: nn.Module,
    plan: Plan,
    data: Sequence[Batch],
    generator: torch.Generator,
    solver: Solver,
    kept: Mapping[str, Tensor],
) -> list[str]:
    sides = [Side.of(model, data[0][0]) for model in (small, dense)]
    pairs = find_pairs(small, dense, plan, data[0][0])
    done: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(as_captured(small))
        for side in range(2):
            modules = {name: (pair.small, pair.dense)[side].module for name, pair in pairs.items()}
            stack.enter_context(Pausing(modules))
        running = [(sides[0].start(inputs), sides[1].start(inputs)) for inputs, _ in data]
        stack.callback(lambda: [run.forward.stop() for both in running for run in both])
        for name in tracked(in_order([ours.forward for ours, _ in running]), "fitting layers", len(pairs)):
            there = [both for both in running if both[0].forward.name == name and both[1].go_to(name)]
            if there:
                _fit_(pairs[name], there, generator, solver, kept.get(name))
                done.append(name)
    return done


def _fit_(
    pair: Pair,
    running: Sequence[tuple[Running, Running]],
    generator: torch.Generator,
    solver: Solver,
    kept: Tensor | None,
) -> None:
    small = pair.small
    gram_GDD = cross_GDO = None
    count = 0
    for ours, theirs in running:
        assert ours.forward.given is not None and theirs.forward.given is not None
        state = generator.get_state()
        x_NGDP = small.columns(ours.forward.given, generator).double()
        generator.set_state(state)
        wanted_NRP = _dense_outputs(pair, ours, theirs, generator)
        generator.set_state(state)
        wanted_NRP += _missing(pair, ours, theirs, generator, wanted_NRP)
        x_GDn = x_NGDP.permute(1, 2, 0, 3).flatten(2)
        wanted_GOn = wanted_NRP.unflatten(1, (small.groups, -1)).permute(1, 2, 0, 3).flatten(2)
        gram, cross = x_GDn @ x_GDn.transpose(1, 2), x_GDn @ wanted_GOn.transpose(1, 2)
        gram_GDD = gram if gram_GDD is None else gram_GDD + gram
        cross_GDO = cross if cross_GDO is None else cross_GDO + cross
        count += x_GDn.shape[2]
    assert gram_GDD is not None and cross_GDO is not None
    start_RD = small.values().double()
    solve = partial(solver, constant=small.constant is not None)
    if kept is None:
        fitted = solve(gram_GDD / count, cross_GDO / count, start_RD)
    else:
        fitted = _within(small.kept_rows(kept), gram_GDD / count, cross_GDO / count, start_RD, solve)
    if bool(fitted.isfinite().all()):
        small.write_(running[0][0].side.model, fitted.float())


def _dense_outputs(pair: Pair, ours: Running, theirs: Running, generator: torch.Generator) -> Tensor:
    """What the kept outputs of the dense layer are, in the terms of the smaller one: `(N, R, P)`."""
    dense = pair.dense
    x_NGDP = dense.columns(theirs.forward.given, generator).double()  # type: ignore[arg-type]
    rows_GOD = dense.values().double().unflatten(0, (dense.groups, -1))
    made_NRP = (rows_GOD @ x_NGDP).flatten(1, 2)[:, pair.rows]
    offset, other = pair.small.offset(ours.side.model), dense.offset(theirs.side.model)
    if offset is not None and other is not None:
        made_NRP += (other.double()[pair.rows] - offset.double() / pair.factor)[:, None]
    return made_NRP * pair.factor[:, None]


def _missing(pair: Pair, ours: Running, theirs: Running, generator: torch.Generator, like_NRP: Tensor) -> Tensor:
    """What the smaller network's shortcut lacks, over what the layer's output is multiplied by on its way to it."""
    mine, other = ours.shortcut(pair.small.name), theirs.shortcut(pair.dense.name)
    found = ours.side.shortcuts.get(pair.small.name)
    if mine is None or other is None or found is None:
        return torch.zeros_like(like_NRP)
    state = generator.get_state()
    mine_NRP = pair.small.outputs(mine, generator).flatten(1, 2).double()
    generator.set_state(state)
    other_NRP = pair.dense.outputs(other, generator).flatten(1, 2)[:, pair.rows].double()
    gain = found.gain(ours.side.model)
    if gain is None:
        return other_NRP - mine_NRP
    gain = gain.double()
    works = gain.abs() > 1e-3 * gain.abs().max()
    return (other_NRP - mine_NRP) * (works / gain.where(works, 1.0))[:, None]


def _within(kept_RD: Tensor, gram_GDD: Tensor, cross_GDO: Tensor, start_RD: Tensor, solve: Solver) -> Tensor:
    """Rows that are zero where nothing is kept; those that keep the same columns are solved for together."""
    made_RD = torch.zeros_like(start_RD)
    per_group = len(start_RD) // len(gram_GDD)
    for group, (gram_DD, cross_DO) in enumerate(zip(gram_GDD, cross_GDO, strict=True)):
        first = group * per_group
        patterns, which_O = torch.unique(kept_RD[first : first + per_group], dim=0, return_inverse=True)
        for number, pattern_D in enumerate(patterns):
            outputs, columns = (found.nonzero()[:, 0] for found in (which_O == number, pattern_D))
            rows = first + outputs
            made_RD[rows[:, None], columns] = solve(
                gram_DD[columns][:, columns][None],
                cross_DO[columns][:, outputs][None],
                start_RD[rows[:, None], columns],
            )
    return made_RD


def fit(gram_GDD: Tensor, cross_GDO: Tensor, start_RD: Tensor, damping: float, *, constant: bool) -> Tensor:
    """Rows `(R, D)` that minimise `E|w x - y|^2 + ridge |w - start|^2`, the ridge being `damping` times the mean of
    the diagonal of E[x x^T]; the constant in the last column is free, or stays where it is.

    gram_GDD: E[x x^T] of each group. cross_GDO: E[x y^T].
    """
    groups, size = len(gram_GDD), gram_GDD.shape[1] - (0 if constant else 1)
    start_GDO = start_RD.unflatten(0, (groups, -1)).transpose(1, 2)
    ridge_GD = (damping * gram_GDD.diagonal(dim1=1, dim2=2)[:, :-1].mean(1, keepdim=True)).repeat(1, gram_GDD.shape[1])
    ridge_GD = ridge_GD.clamp(min=torch.finfo(torch.float64).tiny)
    ridge_GD[:, -1] *= 1e-3
    system = (gram_GDD + torch.diag_embed(ridge_GD))[:, :size, :size]
    right = (cross_GDO + ridge_GD[:, :, None] * start_GDO)[:, :size]
    made = start_GDO.clone()
    made[:, :size] = torch.linalg.solve(system, right)
    return made.transpose(1, 2).flatten(0, 1)
