"""Which plans made a model what it is; kept beside the model, never on it."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from torch import nn

from secateur.sparse import masks_of, remember_masks
from secateur.sparse.masks import shrink_masks
from secateur.spec import Plan

_HISTORY: WeakKeyDictionary[nn.Module, tuple[Plan, ...]] = WeakKeyDictionary()


def history_of(model: nn.Module) -> tuple[Plan, ...]:
    """The plans that were applied to the model's original, in order; empty for a model that Secateur has not cut."""
    return _HISTORY.get(model, ())


def remember_history(model: nn.Module, plans: Sequence[Plan]) -> None:
    """Note the plans that led to this model."""
    _HISTORY[model] = tuple(plans)


def remember_cut(small: nn.Module, model: nn.Module, plan: Plan) -> None:
    """Note what the smaller model has from the one that the plan cut: its history, and its masks as they are now."""
    remember_history(small, [*history_of(model), plan])
    masks = masks_of(model)
    if masks is not None:
        remember_masks(small, shrink_masks(masks, plan))
