"""Training that holds removed weights at zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.sparse.masks import Masks, masked_parameters


def keeping(model: nn.Module, masks: Masks, optimizer: Optimizer) -> Callable[[], None]:
    """From now on, each step of this optimizer holds the removed weights of this model at zero, with their gradients
    and whatever the optimizer remembers of them (momentum, moments of Adam); returns a function that ends it.

    Weights that stay are trained exactly as they would be if the removed ones did not exist, by every optimizer that
    treats elements one by one, weight decay included. Raises PlanError for masks that do not fit the model.
    """
    pairs = masked_parameters(model, masks)
    handles = [
        optimizer.register_step_pre_hook(partial(_clear_gradients, pairs)),
        optimizer.register_step_post_hook(partial(_clear, pairs)),
    ]
    _clear(pairs, optimizer)

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end


Pairs = Iterable[tuple[nn.Parameter, Tensor]]


def _clear_gradients(pairs: Pairs, *_: Any) -> None:
    for parameter, removed in pairs:
        if parameter.grad is not None:
            parameter.grad.masked_fill_(removed, 0)


def _clear(pairs: Pairs, optimizer: Optimizer, *_: Any) -> None:
    with torch.no_grad():
        for parameter, removed in pairs:
            parameter.masked_fill_(removed, 0)
            state: dict[str, Any] = optimizer.state.get(parameter, {})
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(removed, 0)
