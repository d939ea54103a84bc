"""Random networks with their traces, made once per worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch

from secateur.structure import Traced, trace_program
from secateur.testing import Network, random_network

Case = tuple[Network, Traced]


@lru_cache(maxsize=64)
def _case(seed: int) -> Case:
    network = random_network(seed)
    return network, trace_program(network.model, network.inputs)


@pytest.fixture
def case() -> Callable[[int], Case]:
    """The network of a seed and its trace; do not change either."""
    return _case


@pytest.fixture
def other_inputs() -> Callable[[Network, int], tuple[torch.Tensor, ...]]:
    """Inputs of the same shapes as the network's own."""

    def make(network: Network, seed: int) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn(x.shape, generator=generator) if x.is_floating_point() else x.flip(0).roll(seed % 5, -1)
            for x in network.inputs
        )

    return make
