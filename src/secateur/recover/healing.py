"""Healing what a cut has damaged, stage by stage, without training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from secateur.recover.folding import fold_
from secateur.recover.joint import joint_refit_
from secateur.recover.rebasing import rebase_norms_
from secateur.recover.recalibration import recalibrate_
from secateur.recover.refit import refit_
from secateur.recover.tuning import fit_scales
from secateur.score.gradients import Batch
from secateur.spec import Plan, SecateurError
from secateur.structure.capture import Inputs

FOLD = "fold"
"""The stage that needs no data."""
RECALIBRATE = "recalibrate"
"""BatchNorm statistics and nothing else."""
TUNE = "tune"
"""A factor for each input of each layer."""
STAGES = ("refit", "joint")
"""Layer by layer, and layers together with those that read them."""


def stages_of(recover: str) -> Sequence[str]:
    """The stages that a name means: all up to this one; `auto` is all, `none` is none, `fold`, `recalibrate` and
    `tune` are alone."""
    if recover == "none":
        return ()
    if recover in (FOLD, RECALIBRATE, TUNE):
        return (recover,)
    if recover != "auto" and recover not in STAGES:
        known = ", ".join(("auto", "none", FOLD, *STAGES, TUNE, RECALIBRATE))
        raise SecateurError(
            f"unknown recover {recover!r} of channels; expected {known} (second-order is for single weights)"
        )
    return STAGES if recover == "auto" else STAGES[: STAGES.index(recover) + 1]


def heal_(
    small: nn.Module,
    dense: nn.Module,
    plan: Plan,
    inputs: Inputs,
    data: Iterable[Batch],
    stages: Iterable[str],
    generator: torch.Generator,
) -> Iterator[str]:
    """Carry out these stages on the smaller network, one whenever the next is asked for; says which has been. At the
    end BatchNorms say what they read, so that training can begin from there.

    plan: what the smaller network was cut by. inputs: examples. data: calibration batches, read anew for each stage
    that needs some; labels are not read.
    """
    given = tuple(stages)
    for stage in given:
        if stage == FOLD:
            fold_(small, dense, plan, inputs)
        elif stage == RECALIBRATE:
            recalibrate_(small, data)
        elif stage == TUNE:
            refit_(small, dense, plan, list(data), generator, solver=fit_scales)
        else:
            heal = refit_ if stage == "refit" else joint_refit_
            heal(small, dense, plan, list(data), generator)
        if stage == given[-1] and stage in (*STAGES, TUNE):
            rebase_norms_(small, data)
        yield stage
