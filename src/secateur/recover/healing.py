"""Healing what a cut has damaged, stage by stage, without training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from secateur.recover.joint import joint_refit_
from secateur.recover.refit import refit_
from secateur.score.gradients import Batch
from secateur.sparse.second_order import Task, find_layers, matters, settle_
from secateur.sparse.second_order.gauss_newton import enough_directions
from secateur.spec import Plan, SecateurError
from secateur.structure.modes import frozen

STAGES = ("refit", "joint", "settle")
"""Layer by layer, part by part, and all at once."""
WEIGHTS_PER_DIRECTION = 512
"""Of the last stage, at most: its steps are judged, so that it may try more than what data says surely."""


def stages_of(recover: str) -> Sequence[str]:
    """The stages that a name means: all up to this one; `auto` is all, `none` is none."""
    if recover == "none":
        return ()
    if recover != "auto" and recover not in STAGES:
        known = f"of channels; expected auto, none, {', '.join(STAGES)} (second-order is for single weights)"
        raise SecateurError(f"unknown recover {recover!r} {known}")
    return STAGES if recover == "auto" else STAGES[: STAGES.index(recover) + 1]


def heal_(
    small: nn.Module,
    dense: nn.Module,
    plan: Plan,
    data: Iterable[Batch],
    stages: Iterable[str],
    generator: torch.Generator,
) -> Iterator[str]:
    """Carry out these stages on the smaller network, one whenever the next is asked for; says which has been.

    plan: what the smaller network was cut by. data: calibration batches, read anew for each stage; labels are not read.
    """
    for stage in stages:
        if stage == "refit":
            refit_(small, dense, plan, list(data), generator)
        elif stage == "joint":
            joint_refit_(small, dense, plan, list(data), generator)
        else:
            _settle_all_(small, dense, data, generator)
        yield stage


def _settle_all_(small: nn.Module, dense: nn.Module, data: Iterable[Batch], generator: torch.Generator) -> None:
    """Steps of all layers together towards the dense network's outputs; none where there are too few samples for so
    many weights."""
    names = [name for name, parameter in small.named_parameters() if parameter.dim() > 1]
    with frozen(small, dense):
        layers = find_layers(small, next(iter(data))[0], names)
        task = Task(small, dense, layers, lambda: data, generator)
        weights = sum(layer.weight.numel() for layer in layers.values())
        if not layers or not enough_directions(task.samples, weights, WEIGHTS_PER_DIRECTION):
            return
        hessians, counts = task.look()
        kept = {name: torch.ones_like(layer.values(), dtype=torch.bool) for name, layer in layers.items()}
        for name, layer in layers.items():
            kept[name][:, -1] = layer.constant is not None
        settle_(task, kept, {name: matters(hessians[name], counts[name]) for name in layers})
