"""Train and eval mode, and what asks for gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """All modules in eval mode, each put back into its own mode at the end."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """All modules in eval mode, and no parameter asks for gradients; put back as they were at the end."""
    asking = [parameter for model in models for parameter in model.parameters() if parameter.requires_grad]
    with eval_mode(*models):
        for parameter in asking:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in asking:
                parameter.requires_grad_(True)
