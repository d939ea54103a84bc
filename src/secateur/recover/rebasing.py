"""BatchNorms that say what they really read, in a network that stays what it is: where training can begin.

Fitted layers make less variance than the statistics of the BatchNorms behind them say, on purpose. In train mode these
normalise by what they read, which would undo that at the first step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.score.gradients import Batch
from secateur.sparse.second_order.layers import given
from secateur.structure.capture import attached, call_model
from secateur.structure.modes import eval_mode


class _Seen:
    """Sums over what a norm reads, by channel, in double precision."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        own = x.detach().double().movedim(1, 0).flatten(1)
        self.count += own.shape[1]
        self.total, self.squares = self.total + own.sum(1), self.squares + own.square().sum(1)

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def variance(self) -> Tensor:
        """Unbiased, as BatchNorms remember it."""
        return ((self.squares - self.count * self.mean.square()) / (self.count - 1)).clamp(min=0)


def rebase_norms_(model: nn.Module, data: Iterable[Batch]) -> list[str]:
    """Set the mean and variance of every BatchNorm that has a scale and a shift to those of what it reads, and scale
    and shift so that nothing changes in eval mode; returns the norms' paths. Norms that no batch reaches, or only one
    value per channel, keep what they have."""
    norms = {
        path: norm
        for path, norm in model.named_modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.affine
    }
    seen = {path: _Seen() for path in norms}

    def watching(path: str) -> Any:
        return lambda _, args, kwargs: seen[path].add(given(args, kwargs))

    with eval_mode(model), torch.no_grad():
        with attached(norm.register_forward_pre_hook(watching(path), with_kwargs=True) for path, norm in norms.items()):
            for inputs, _ in data:
                call_model(model, inputs)
        reached = [path for path, found in seen.items() if found.count > 1]
        for path in reached:
            _rebase_(norms[path], seen[path])
    return reached


def _rebase_(norm: _BatchNorm, seen: _Seen) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    mean, before = norm.running_mean.double(), (norm.running_var.double() + norm.eps).rsqrt()
    after = (seen.variance + norm.eps).rsqrt()
    slope = norm.weight.double() * before
    norm.bias.add_((slope * (seen.mean - mean)).to(norm.bias))
    norm.weight.copy_(slope / after)
    norm.running_mean.copy_(seen.mean)
    norm.running_var.copy_(seen.variance)
