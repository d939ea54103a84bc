"""How weights of convolutions lie in memory while a network is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def channels_last(networks: Sequence[nn.Module]) -> Iterator[None]:
    """With channels innermost, which is how most devices convolve fastest; images follow the weights by themselves."""
    for network in networks:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (its stub lacks it)
    try:
        yield
    finally:
        for network in networks:
            network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
