"""Second moments of what layers read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.score.gradients import Batch
from secateur.sparse.second_order.layers import Layer, given
from secateur.structure.capture import attached, call_model


class Moments:
    """The running mean of `x x^T` over the columns `x` that a layer reads; `(G, D, D)`, in double precision."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.sum_GDD: Tensor | None = None
        self.count = 0

    def add(self, x: Tensor, generator: torch.Generator) -> None:
        """Add what the layer was given in one call, at places drawn at random."""
        columns = self.layer.columns(x.detach(), generator).float().permute(1, 2, 0, 3).flatten(2)  # (G, D, N P)
        product = torch.bmm(columns, columns.transpose(1, 2)).double()
        self.sum_GDD = product if self.sum_GDD is None else self.sum_GDD + product
        self.count += columns.shape[2]

    @property
    def mean_GDD(self) -> Tensor:
        """Of a layer that was called."""
        assert self.sum_GDD is not None
        return self.sum_GDD / self.count


def measure_moments(
    model: nn.Module, layers: Mapping[str, Layer], data: Iterable[Batch], generator: torch.Generator
) -> dict[str, Tensor]:
    """Second moments by weight, for layers of this model that are called, over all their calls; in eval mode."""
    found = {name: Moments(layer) for name, layer in layers.items()}

    def watching(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found[name].add(given(args, kwargs), generator)

        return hook

    with (
        torch.no_grad(),
        attached(layer.module.register_forward_pre_hook(watching(n), with_kwargs=True) for n, layer in layers.items()),
    ):
        for inputs, _ in data:
            call_model(model, inputs)
    return {name: moments.mean_GDD for name, moments in found.items() if moments.count}
