"""Measure a model on data for single weights: gradients of each sample, and how large the inputs of each weight are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.score.gradients import Batch, chunks, first_batch, gradients_per_sample
from secateur.score.statistics import Statistics
from secateur.structure import named_tensors
from secateur.structure.capture import as_captured, call_model

GRADIENTS = frozenset({"fisher", "mean-gradient"})


def measure_weights(
    model: nn.Module, weights: Mapping[str, Tensor], data: Sequence[Batch], needs: frozenset[str]
) -> Statistics:
    """Sums over all samples, each of the shape of its parameter: squared gradients (`fisher/NAME`), gradients
    (`mean-gradient/NAME`), squared inputs (`inputs/NAME`); and the number of samples whose gradients were taken.

    model: in eval mode; is not changed. weights: of this model. Raises ScoreError for data without a batch.
    """
    first_batch(data)
    found = Statistics("")
    for batch in data:
        if needs & GRADIENTS:
            _add_gradients(model, weights, batch, found)
        if "inputs" in needs:
            with as_captured(model), _SquaredInputs(weights, found):
                call_model(model, batch[0])
    return found


def _add_gradients(model: nn.Module, weights: Mapping[str, Tensor], batch: Batch, found: Statistics) -> None:
    floating = {
        item.name: item.tensor
        for item in named_tensors(model)
        if item.kind == "parameter" and item.tensor.is_floating_point()
    }
    for inputs, labels in chunks(*batch):
        gradients = gradients_per_sample(model, floating, inputs, labels)
        found.add("gradients#", torch.tensor(float(len(next(iter(gradients.values()))))))
        for name in weights:
            found.add(f"fisher/{name}", (gradients[name] ** 2).sum(0))
            found.add(f"mean-gradient/{name}", gradients[name].sum(0))


class _SquaredInputs(TorchDispatchMode):
    """Adds up the squares of what each weight is multiplied with, whatever module does it.

    A weight is known by its memory, so that parts of it (the projections of an attention) are, too.
    """

    def __init__(self, weights: Mapping[str, Tensor], found: Statistics) -> None:
        super().__init__()
        self.weights = weights
        self.names = {weight.untyped_storage().data_ptr(): name for name, weight in weights.items()}
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            self._add(args[1], _under_kernel(args, output))
        elif func in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
            x, factor = args[-2:]
            self._add(factor, (x.double() ** 2).sum(0)[:, None].expand(factor.shape))
        return output

    def _add(self, used: Tensor, squares: Tensor) -> None:
        """Add to the entries of the weight that the operator read; `squares` has the shape of what it was given."""
        name = self.names.get(used.untyped_storage().data_ptr())
        if name is None:
            return
        weight = self.weights[name]
        total = torch.zeros(weight.numel(), dtype=torch.float64)
        offset = used.storage_offset() - weight.storage_offset()
        total.as_strided(used.shape, used.stride(), offset).copy_(squares.expand(used.shape))
        self.found.add(f"inputs/{name}", total.as_strided(weight.shape, weight.stride()))


def _under_kernel(args: Any, output: Tensor) -> Tensor:
    """Sum of squares of the inputs that each entry of a convolution's weight is multiplied with, over all places of the
    kernel: the gradient of the weight for squared inputs and an output gradient of ones. A transposed convolution uses
    all inputs at every entry, but for what it crops at the edges."""
    x, weight, _, stride, padding, dilation, transposed, output_padding, groups = args
    squares = x.double() ** 2
    if transposed:
        return squares.transpose(0, 1).flatten(1).sum(1).reshape(-1, *[1] * (weight.dim() - 1))
    ones = squares.new_ones(output.shape[0], groups, *output.shape[2:])
    kernel = squares.new_zeros(groups, *weight.shape[1:])
    backward = torch.ops.aten.convolution_backward
    _, sums, _ = backward(
        ones, squares, kernel, None, stride, padding, dilation, transposed, output_padding, groups, [False, True, False]
    )
    return sums.repeat_interleave(weight.shape[0] // groups, dim=0)
