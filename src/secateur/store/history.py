"""Which plans made a model what it is, and in which runs; kept beside the model, never on it."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from torch import nn

from secateur.sparse import masks_of, remember_masks
from secateur.sparse.masks import shrink_masks
from secateur.spec import PastRun, Plan

_HISTORY: WeakKeyDictionary[nn.Module, tuple[Plan, ...]] = WeakKeyDictionary()
_RUNS: WeakKeyDictionary[nn.Module, tuple[PastRun, ...]] = WeakKeyDictionary()


def history_of(model: nn.Module) -> tuple[Plan, ...]:
    """The plans that were applied to the model's original, in order; empty for a model that Secateur has not cut."""
    return _HISTORY.get(model, ())


def runs_of(model: nn.Module) -> tuple[PastRun, ...]:
    """The runs that led to the folder that the model, or what it was made of, was loaded from."""
    return _RUNS.get(model, ())


def remember_history(model: nn.Module, plans: Sequence[Plan]) -> None:
    """Note the plans that led to this model."""
    _HISTORY[model] = tuple(plans)


def remember_runs(model: nn.Module, runs: Sequence[PastRun]) -> None:
    """Note the runs that led to this model."""
    _RUNS[model] = tuple(runs)


def inherit(made: nn.Module, model: nn.Module) -> None:
    """Note that the one was made of the other without a cut."""
    remember_history(made, history_of(model))
    remember_runs(made, runs_of(model))


def remember_cut(small: nn.Module, model: nn.Module, plan: Plan) -> None:
    """Note what the smaller model has from the one that the plan cut: its history, and its masks as they are now."""
    remember_history(small, [*history_of(model), plan])
    remember_runs(small, runs_of(model))
    masks = masks_of(model)
    if masks is not None:
        remember_masks(small, shrink_masks(masks, plan))
