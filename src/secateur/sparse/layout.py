"""How a weight is laid out: which dimension holds its outputs, which its inputs, and which the places of a kernel.

Suffixes of shapes: O outputs, I inputs, K places of the kernel (1 for a linear layer).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """A parameter of two or more dimensions as a matrix of outputs by (inputs x kernel)."""

    shape: tuple[int, ...]
    order: tuple[int, ...]
    """Its dimensions with those of the outputs first, then the inputs, then the kernel."""
    outputs: int
    inputs: int
    kernel: int

    @property
    def columns(self) -> int:
        """Width of the matrix."""
        return self.inputs * self.kernel

    def matrix(self, tensor: Tensor) -> Tensor:
        """The tensor `(*shape)` as `(O, I x K)`; a view where its memory allows."""
        return tensor.permute(self.order).reshape(self.outputs, self.columns)

    def tensor(self, matrix: Tensor) -> Tensor:
        """What `matrix` was made from."""
        back = sorted(range(len(self.order)), key=lambda place: self.order[place])
        return matrix.reshape([self.shape[dim] for dim in self.order]).permute(back)


def layout_of(module: nn.Module, parameter: Tensor) -> Layout:
    """The layout of a parameter of this module.

    Convolutions have outputs first and inputs second, transposed ones the other way round, and so has the `Conv1D` of
    transformers. Of any other parameter the last dimension is taken for the inputs and those before it for the outputs.
    """
    shape = tuple(parameter.shape)
    if isinstance(module, nn.modules.conv._ConvNd):
        order = (1, 0, *range(2, len(shape))) if module.transposed else tuple(range(len(shape)))
        return Layout(shape, order, shape[order[0]], shape[order[1]], prod(shape[2:]))
    if type(module).__name__ == "Conv1D" and len(shape) == 2:
        return Layout(shape, (1, 0), shape[1], shape[0], 1)
    return Layout(shape, tuple(range(len(shape))), prod(shape[:-1]), shape[-1], 1)
