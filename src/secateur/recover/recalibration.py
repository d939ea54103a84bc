"""BatchNorm statistics measured anew, on what the smaller network's layers make now.

For networks that are healed by nothing else. After a least squares fit the statistics suit already, and measured anew
they undo part of it: fitted layers make less variance than the dense ones, on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.score.gradients import Batch
from secateur.spec import ScoreError
from secateur.structure.capture import call_model
from secateur.structure.modes import eval_mode


def recalibrate_(model: nn.Module, data: Iterable[Batch]) -> list[str]:
    """Set the running mean and variance of every BatchNorm to their means over the batches; returns the norms' paths.

    Nothing else is in train mode meanwhile. Norms that no batch reaches keep what they have. Raises ScoreError for
    batches that hold a single value per channel.
    """
    norms = {
        path: norm
        for path, norm in model.named_modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None
    }
    before = {path: {name: tensor.clone() for name, tensor in norm.named_buffers()} for path, norm in norms.items()}
    momenta = {path: norm.momentum for path, norm in norms.items()}
    with eval_mode(model), torch.no_grad():
        try:
            for norm in norms.values():
                norm.reset_running_stats()
                norm.momentum = None  # the mean over all batches
                norm.train()
            for inputs, _ in data:
                call_model(model, inputs)
        except ValueError as error:
            _restore(norms, before)
            raise ScoreError(f"recover='recalibrate': {error}; give larger batches") from error
        finally:
            for path, norm in norms.items():
                norm.momentum = momenta[path]
    reached = [path for path, norm in norms.items() if norm.num_batches_tracked]
    _restore({path: norm for path, norm in norms.items() if path not in reached}, before)
    return reached


def _restore(norms: dict[str, _BatchNorm], before: dict[str, dict[str, torch.Tensor]]) -> None:
    for path, norm in norms.items():
        for name, tensor in norm.named_buffers():
            tensor.copy_(before[path][name])
