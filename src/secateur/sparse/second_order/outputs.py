"""What a network and its reference return for the same inputs, and how far apart that is.

Class scores say a distribution, and distributions are as far apart as their Kullback-Leibler divergence. Anything else
is taken as values, which are as far apart as half of their squared difference, in units of their variance.

To first order both are described by random directions `u` of the outputs: with `L L^T` the curvature of the distance
and `z` standard normal, `u = L z`, and `u . outputs` depends on the weights as the distance does, in expectation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from secateur.score.gradients import Batch, chunks
from secateur.spec import ScoreError
from secateur.structure.capture import Inputs, call_model


class Outputs(Protocol):
    """How outputs are read, and what matters about them; N samples, `...` whatever the network returns of each."""

    def read(self, output: Any) -> Tensor:
        """What is compared: `(N, ...)`, as a differentiable function of what the model returned."""
        ...

    def distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Of each sample, `(N,)`."""
        ...

    def spread(self, found: Tensor, wanted: Tensor) -> Tensor:
        """The trace of the curvature of each sample, `(N,)`."""
        ...

    def direction(self, found: Tensor, wanted: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """u, `(N, ...)`, and what `u . outputs` lacks, `(N,)`: its product with u is minus the gradient of the
        distance, in expectation."""
        ...


class ClassScores:
    """Logits in the last dimension, of one distribution or of several in a row."""

    def read(self, output: Any) -> Tensor:
        return output_tensor(output).float()

    def distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        logs, sought = found.log_softmax(-1), wanted.log_softmax(-1)
        return (sought.exp() * (sought - logs)).sum(-1).reshape(len(found), -1).mean(1)

    def spread(self, found: Tensor, wanted: Tensor) -> Tensor:
        q = self._between(found, wanted)
        return (1 - q.square().sum(-1)).reshape(len(q), -1).sum(1)

    def direction(self, found: Tensor, wanted: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        q = self._between(found, wanted)
        z = torch.randn(q.shape, generator=generator).to(q)
        root = q.sqrt()
        direction = root * z - q * (root * z).sum(-1, keepdim=True)
        missing = z * (wanted.softmax(-1) - found.softmax(-1)) / root.clamp(min=torch.finfo(q.dtype).tiny)
        return direction, missing.flatten(1).sum(1)

    def _between(self, found: Tensor, wanted: Tensor) -> Tensor:
        """The distributions whose curvature counts: that of either alone is blind where it is sure and the other is
        not."""
        return (found.softmax(-1) + wanted.softmax(-1)) / 2


class Values:
    """Numbers, such as an embedding or a map."""

    def __init__(self, unit: float) -> None:
        """unit: the deviation of the reference's outputs."""
        self.unit = unit

    def read(self, output: Any) -> Tensor:
        return output_tensor(output).float() / self.unit

    def distance(self, found: Tensor, wanted: Tensor) -> Tensor:
        return (found - wanted).square().flatten(1).mean(1) / 2

    def spread(self, found: Tensor, wanted: Tensor) -> Tensor:
        del wanted  # the curvature is the same everywhere
        return torch.ones(len(found), device=found.device)

    def direction(self, found: Tensor, wanted: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        scale = found[0].numel() ** -0.5
        z = torch.randn(found.shape, generator=generator).to(found)
        return z * scale, (z * (wanted - found)).flatten(1).sum(1) * scale


def outputs_of(reference: nn.Module, inputs: Inputs) -> Outputs:
    """How to read the outputs of networks like this one. Class scores are what is called `logits`, and tensors that
    hold one or more rows of numbers per sample; maps, and what a base model of transformers returns, are values."""
    with torch.no_grad():
        output = call_model(reference, inputs)
    tensor = output_tensor(output)
    named = isinstance(output, Mapping)
    if (named and "logits" in output) or (not named and tensor.dim() <= 3):
        return ClassScores()
    unit = float(tensor.float().var(0, correction=0).mean().sqrt()) if len(tensor) > 1 else float(tensor.float().std())
    return Values(unit if unit > 0 else 1.0)


def output_tensor(output: Any) -> Tensor:
    """The tensor that matters among what a model returned: `logits`, or the first of floating point. Raises ScoreError
    where there is none."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        found = [output["logits"]] if "logits" in output else list(output.values())
    else:
        found = list(output) if isinstance(output, list | tuple) else []
    tensors = [leaf for leaf in found if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not tensors:
        raise ScoreError(
            f"the model returned {type(output).__name__} without a tensor of numbers; wrap it in one that does"
        )
    return tensors[0]


def divergence(model: nn.Module, reference: nn.Module, data: Iterable[Batch]) -> float:
    """Mean distance of the model's outputs from the reference's over samples, both in eval mode."""
    total, count, outputs = 0.0, 0, None
    with torch.no_grad():
        for batch in data:
            for inputs, _ in chunks(*batch):
                outputs = outputs_of(reference, batch[0]) if outputs is None else outputs
                found, wanted = (outputs.read(call_model(network, inputs)) for network in (model, reference))
                total += float(outputs.distance(found, wanted).sum())
                count += len(found)
    return total / count
