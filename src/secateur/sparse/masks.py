"""Element masks on a model: which weights they cover, setting the zeros, keeping them during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from secateur.spec import PlanError

Masks = Mapping[str, Tensor]
"""Name of a parameter -> boolean tensor of its shape, False where the weight is zero."""


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of two or more dimensions by name, shared ones once: weights, not biases or norms."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.dim() > 1}


def apply_masks_(model: nn.Module, masks: Masks) -> nn.Module:
    """Set the removed weights to zero in place; returns the model. Raises PlanError for masks that do not fit it."""
    _set_zeros(_matched(model, masks))
    return model


def keeping(model: nn.Module, masks: Masks) -> Callable[[nn.Module], None]:
    """An `after_step` hook for `secateur.train.fit`: whatever gradient, momentum and weight decay did to the removed
    weights of this model is undone after each step."""
    pairs = _matched(model, masks)
    return lambda _: _set_zeros(pairs)


def sparsity(model: nn.Module) -> float:
    """Zeros over the number of prunable weights, counted exactly."""
    weights = prunable_weights(model).values()
    zeros = sum(weight.numel() - int(torch.count_nonzero(weight)) for weight in weights)
    return zeros / max(1, sum(weight.numel() for weight in weights))


def _matched(model: nn.Module, masks: Masks) -> list[tuple[nn.Parameter, Tensor]]:
    """Each masked parameter with its removed positions, on its own device."""
    parameters = dict(model.named_parameters())
    pairs: list[tuple[nn.Parameter, Tensor]] = []
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            found = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            raise PlanError(
                f"the masks do not fit {type(model).__name__}: {name!r} has a mask of {tuple(mask.shape)}, the model "
                f"has {found}; make them from this model"
            )
        pairs.append((parameters[name], ~mask.to(parameters[name].device)))
    return pairs


def _set_zeros(pairs: list[tuple[nn.Parameter, Tensor]]) -> None:
    with torch.no_grad():
        for parameter, removed in pairs:
            parameter.masked_fill_(removed, 0)
