"""Several processes that train one network together: what they add up, and what the first does for all.

Without torch.distributed, or with one process, everything here is the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


def count() -> int:
    """Processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def index() -> int:
    """Of this process, from 0; the first has the output and the files to itself."""
    return distributed.get_rank() if count() > 1 else 0


def summed(values: Sequence[float], device: str | torch.device) -> list[float]:
    """Each value added up over the processes."""
    if count() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return total.tolist()


def from_first(make: Callable[[], T]) -> T:
    """What the first process makes; the others wait for it."""
    if count() == 1:
        return make()
    held: list[T | None] = [make() if index() == 0 else None]
    distributed.broadcast_object_list(held)
    return held[0]  # type: ignore[return-value]


def buffers_of_first(model: nn.Module) -> None:
    """Buffers (running statistics) become those of the first process."""
    if count() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def joined(model: nn.Module, device: torch.device) -> nn.Module:
    """The network whose backward averages gradients over the processes; it shares its tensors with the model.

    Layers may be left out by chance (stochastic depth, LayerDrop), so parameters may go unused in a step.
    """
    if count() == 1:
        return model
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)
