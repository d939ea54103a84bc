"""What a network and its reference return for the same inputs, and how far apart that is.

Class scores say a distribution, and distributions are as far apart as their Kullback-Leibler divergence. Anything else
is taken as values, which are as far apart as half of their squared difference, in units of their variance.

To first order both are described by random directions `u` of the outputs: with `L L^T` the curvature of the distance
and `z` standard normal, `u = L z`, and `u . outputs` depends on the weights as the distance does, in expectation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Judge:
    """How far networks are from a reference on some samples; what the reference makes of these is computed once."""

    def __init__(self, reference: nn.Module, data: Sequence[Batch]) -> None:
        """reference: in eval mode."""
        self._parts = [part for batch in data for part, _ in chunks(*batch)]
        self._outputs = outputs_of(reference, data[0][0])
        self._wanted = [self._read(reference, part) for part in self._parts]

    def __call__(self, model: nn.Module) -> float:
        """Mean distance of this network's outputs over the samples; in eval mode."""
        distances = [
            self._outputs.distance(self._read(model, part), wanted)
            for part, wanted in zip(self._parts, self._wanted, strict=True)
        ]
        return float(torch.cat(distances).mean())

    def _read(self, model: nn.Module, inputs: Inputs) -> Tensor:
        with torch.no_grad():
            return self._outputs.read(call_model(model, inputs))
