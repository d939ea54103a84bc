"""An exponential moving average of the weights, and of running statistics, on top of torch's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Call its `update_parameters(model)` after each step.

    The decay rises as `(1 + n) / (10 + n)` over the first steps n, as in TensorFlow's ExponentialMovingAverage, so that
    short runs forget the weights from which they started.
    """

    def average(kept: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        return share * kept + (1 - share) * current

    return AveragedModel(model, avg_fn=average, use_buffers=True)


@contextmanager
def averaged(model: nn.Module, average: AveragedModel | None) -> Iterator[None]:
    """Within, the model has the averaged weights; its own come back afterwards. Nothing without an average."""
    if average is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(average.module.state_dict())
    try:
        yield
    finally:
        model.load_state_dict(own)
