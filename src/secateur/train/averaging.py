"""An exponential moving average of the weights, and of running statistics, on top of torch's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage:
    """Of the parameters and buffers of a model, step by step.

    The decay rises as `(1 + n) / (10 + n)` over the first steps n, as in TensorFlow's ExponentialMovingAverage, so that
    short runs forget the weights from which they started.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        def average(kept: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
            share = min(decay, (1 + int(count)) / (10 + int(count)))
            return share * kept + (1 - share) * current

        self._own = _tensors_of(model)
        self._average = AveragedModel(self._own, avg_fn=average, use_buffers=True)

    def update(self) -> None:
        """Take in the weights as they are after a step."""
        self._average.update_parameters(self._own)

    def put_in(self) -> None:
        """Give the model the averaged weights."""
        self._own.load_state_dict(self._average.module.state_dict())

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the model has the averaged weights; its own come back afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in self._own.state_dict().items()}
        self.put_in()
        try:
            yield
        finally:
            self._own.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """Tensors only."""
        return self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._average.load_state_dict(state)


def _tensors_of(model: nn.Module) -> nn.Module:
    """A module that holds the very parameters and buffers of the model and nothing else: AveragedModel makes a deep
    copy, and hooks, with all that hangs on them, are not to be copied."""
    bare = nn.Module()
    for name, parameter in model.named_parameters():
        bare.register_parameter(name.replace(".", "/"), parameter)
    for name, buffer in model.named_buffers():
        bare.register_buffer(name.replace(".", "/"), buffer)
    return bare
