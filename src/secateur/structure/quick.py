"""Shapes of common operators on the meta device, which torch finds out by a hundred small operators in Python.

A function here returns what the operator would, or None where the case is not plain enough; torch itself is asked then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

aten = torch.ops.aten
Quick = Callable[..., Any]


def quickly(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The operator's output on the meta device, or None."""
    found = _QUICK.get(func)
    return None if found is None or (kwargs and found is not _same) else found(*args)


def _same(x: torch.Tensor, *_: Any) -> torch.Tensor | None:
    """Elementwise, of the same dtype."""
    return torch.empty_like(x) if x.is_floating_point() else None


def _in_place(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return x


def _pair(a: torch.Tensor, b: Any, *rest: Any) -> torch.Tensor | None:
    """Elementwise on two tensors of the same dtype, or on a tensor and a number."""
    if rest or not a.is_floating_point():
        return None
    if not isinstance(b, torch.Tensor):
        return torch.empty_like(a) if isinstance(b, int | float) else None
    if a.dtype != b.dtype or not (a.is_contiguous() and b.is_contiguous()):
        return None
    return a.new_empty(torch.broadcast_shapes(a.shape, b.shape))


def _cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor | None:
    first, *rest = tensors
    dim = dim % max(1, first.dim())

    def fits(other: torch.Tensor) -> bool:
        alike = other.dtype == first.dtype and other.dim() == first.dim() and other.is_contiguous()
        return alike and other.shape[:dim] == first.shape[:dim] and other.shape[dim + 1 :] == first.shape[dim + 1 :]

    if not first.dim() or not first.is_contiguous() or not all(fits(other) for other in rest):
        return None
    return first.new_empty((*first.shape[:dim], sum(part.shape[dim] for part in tensors), *first.shape[dim + 1 :]))


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    _: Sequence[int],
    groups: int,
) -> torch.Tensor | None:
    space = weight.dim() - 2
    fits = x.dim() == weight.dim() and x.shape[1] == weight.shape[1] * groups and x.dtype == weight.dtype
    plain = len(stride) == len(padding) == len(dilation) == space and x.is_contiguous() and weight.is_contiguous()
    if transposed or not fits or not plain or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    made = [
        (x.shape[dim + 2] + 2 * padding[dim] - dilation[dim] * (weight.shape[dim + 2] - 1) - 1) // stride[dim] + 1
        for dim in range(space)
    ]
    return x.new_empty((x.shape[0], weight.shape[0], *made)) if min(made) > 0 else None


def _addmm(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor | None:
    rows, columns = a.shape[0], b.shape[1]
    fits = a.shape[1] == b.shape[0] and bias.shape == (columns,) and a.dtype == b.dtype == bias.dtype
    return a.new_empty((rows, columns)) if fits else None


def _batch_norm(
    x: torch.Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *_: Any
) -> tuple[torch.Tensor, ...] | None:
    held = (tensor for tensor in (weight, bias, mean, variance) if tensor is not None)
    if any(tensor.shape != x.shape[1:2] for tensor in held):
        return None
    statistic = x.shape[1:2] if training else (0,)
    return torch.empty_like(x), x.new_empty(statistic), x.new_empty(statistic)


def _layer_norm(
    x: torch.Tensor, shape: Sequence[int], weight: torch.Tensor | None, *_: Any
) -> tuple[torch.Tensor, ...] | None:
    lead = x.shape[: x.dim() - len(shape)]
    if x.shape[len(lead) :] != torch.Size(shape) or (weight is not None and weight.shape != torch.Size(shape)):
        return None
    statistic = (*lead, *(1 for _ in shape))
    return x.new_empty(x.shape), x.new_empty(statistic), x.new_empty(statistic)


def _softmax(x: torch.Tensor, *rest: Any) -> torch.Tensor | None:
    return torch.empty_like(x) if x.is_contiguous() and rest[1:] in ((), (None,), (False,)) else None


def _mean(x: torch.Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> torch.Tensor | None:
    if not dims or not x.is_contiguous():
        return None
    gone = {dim % x.dim() for dim in dims}
    if keepdim:
        return x.new_empty([1 if dim in gone else size for dim, size in enumerate(x.shape)])
    return x.new_empty([size for dim, size in enumerate(x.shape) if dim not in gone])


_QUICK: dict[Any, Quick] = {
    aten.native_batch_norm.default: _batch_norm,
    aten.native_layer_norm.default: _layer_norm,
    aten.addmm.default: _addmm,
    aten.convolution.default: _convolution,
    aten._softmax.default: _softmax,
    aten._safe_softmax.default: _softmax,
    aten.mean.dim: _mean,
    aten.cat.default: _cat,
    **dict.fromkeys(
        (
            aten.relu.default,
            aten.gelu.default,
            aten.silu.default,
            aten.sigmoid.default,
            aten.tanh.default,
            aten.hardswish.default,
            aten.hardsigmoid.default,
            aten.hardtanh.default,
            aten.clamp_min.default,
        ),
        _same,
    ),
    **dict.fromkeys(
        (
            aten.relu_.default,
            aten.silu_.default,
            aten.sigmoid_.default,
            aten.hardswish_.default,
            aten.hardsigmoid_.default,
            aten.hardtanh_.default,
        ),
        _in_place,
    ),
    **dict.fromkeys(
        (aten.add.Tensor, aten.mul.Tensor, aten.mul.Scalar, aten.sub.Tensor, aten.div.Tensor, aten.div.Scalar), _pair
    ),
}
