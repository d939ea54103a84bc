"""The definition of a cut, executed: the original network where each reduction over an axis skips what is removed, and
each block that leaves passes its input on.

The user's own forward runs once more with the original weights at their original sizes. Nothing is cut; each
operator that reduces over an axis is told which entries to ignore. The reference knows activations only, surgery knows
parameters only: they check each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from secateur.spec import Plan
from secateur.spec.expr import Expr, axes_of, size_of
from secateur.structure import Traced
from secateur.structure.capture import (
    Inputs,
    as_captured,
    call_model,
    call_modules,
    demand_forward,
    private_copy,
    tensors_in,
)
from secateur.structure.following import Diverged, Following
from secateur.structure.tracker import Reduction
from secateur.surgery.bypass import bypassed
from secateur.surgery.select import removed_mask

_FILL = {"zero": 0.0, "one": 1.0, "lowest": float("-inf"), "highest": float("inf")}


def reference_outputs(
    model: nn.Module, traced: Traced, plan: Plan, inputs: Inputs, *, of_modules: bool = False
) -> list[torch.Tensor]:
    """Output tensors of the reference, in the order of the flattened outputs; or those of all modules in it.

    The inputs may have another batch size or other values than those of the capture. Raises Diverged when the forward
    takes another path with them, TraceError when it fails on them.
    """
    try:
        return _replayed(model, traced, plan, inputs, of_modules=of_modules)
    except Diverged:
        raise
    except Exception:
        demand_forward(model, inputs)
        raise


def _replayed(model: nn.Module, traced: Traced, plan: Plan, inputs: Inputs, *, of_modules: bool) -> list[torch.Tensor]:
    copy = private_copy(model).eval()
    with as_captured(copy), bypassed(copy, plan.removed_blocks), _Skipping(traced, plan).following(copy):
        if of_modules:
            return call_modules(copy, inputs, but=[block.module for block in plan.removed_blocks])
        return list(tensors_in(call_model(copy, inputs)))


class _Skipping(Following):
    """Makes each reduction skip the entries that the plan removes."""

    def __init__(self, traced: Traced, plan: Plan) -> None:
        super().__init__(traced)
        self.plan = plan

    def meet(self, number: int, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The operator's output when it ignores what is removed."""
        for reduction in _needed(self.tracker.reductions.get(number, []), args):
            removed = self._removed(number, reduction, args[reduction.arg])
            if removed is None:
                continue
            statistic = _STATISTICS.get(reduction.how)
            if statistic is not None:
                return statistic(_positional(func, args, kwargs), removed, reduction.dims)
            given = args[reduction.arg]
            args[reduction.arg] = given.clone().masked_fill_(removed, _fill(reduction.how, given))  # same strides
        return func(*args, **kwargs)

    def _removed(self, number: int, reduction: Reduction, tensor: torch.Tensor) -> torch.Tensor | None:
        """Mask of removed entries along the reduced dimensions, or None when all stay."""
        dims = self.tracker.dims(self.program.ops[number].args[reduction.arg].id)
        exprs: list[Expr] = [self.names.expr(node) for node in dims]
        if not any(axis in self.plan.kept for dim in reduction.dims for axis in axes_of(exprs[dim])):
            return None
        if any(tensor.shape[dim] != dims[dim].size for dim in reduction.dims):
            raise Diverged(f"operator {number} reduces over other sizes")
        return removed_mask(tensor.shape, _only(exprs, reduction.dims, self.plan), self.plan, tensor.device)


def _needed(reductions: list[Reduction], args: Sequence[Any]) -> list[Reduction]:
    """A product skips what either side leaves out: a weight need not be copied for it where the other side is none."""
    others = [reduction for reduction in reductions if not _is_weight(args[reduction.arg])]
    return others if others and all(reduction.how == "zero" for reduction in reductions) else reductions


def _is_weight(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, nn.Parameter) or isinstance(tensor._base, nn.Parameter)


def _positional(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """All arguments in the order of the operator's schema, defaults included."""
    rest = func._schema.arguments[len(args) :]
    return [*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest)]


def _only(exprs: Sequence[Expr], dims: Sequence[int], plan: Plan) -> list[Expr]:
    """Expressions in which cuts outside the reduced dimensions are made unseen, but parents stay findable."""
    cut = {axis for dim in dims for axis in axes_of(exprs[dim]) if axis in plan.kept}
    parents = {plan.structure.within[axis] for axis in cut if axis in plan.structure.within}
    made: list[Expr] = []
    for dim, expr in enumerate(exprs):
        wanted = dim in dims or any(axis in parents for axis in axes_of(expr))
        made.append(expr if wanted else size_of(expr, plan.structure.sizes))
    return made


def _fill(how: str, tensor: torch.Tensor) -> Any:
    value = _FILL[how]
    return bool(value) if tensor.dtype == torch.bool else value


def _weights(x: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
    return (~removed).to(x.dtype).expand(x.shape)


def _mean(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    x, keepdim = args[0], bool(args[2]) if len(args) > 2 else False
    mean = _kept_mean(x, removed, dims)
    return mean if keepdim else mean.squeeze(dims)


def _kept_mean(x: torch.Tensor, removed: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    return x.masked_fill(removed, 0).sum(dims, keepdim=True) / _weights(x, removed).sum(dims, keepdim=True)


def _variance(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    x, keepdim = args[0], bool(args[3]) if len(args) > 3 else False
    count = _weights(x, removed).sum(dims, keepdim=True)
    total = ((x - _kept_mean(x, removed, dims)) ** 2).masked_fill(removed, 0).sum(dims, keepdim=True)
    correction = args[2] if len(args) > 2 and isinstance(args[2], int | float) else 1
    variance = total / (count - float(correction))
    return variance if keepdim else variance.squeeze(dims)


def _deviation(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    return _variance(args, removed, dims).sqrt()


def _with_mean(statistic: Callable[..., torch.Tensor]) -> Callable[..., tuple[torch.Tensor, ...]]:
    def both(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
        made, mean = statistic(args, removed, dims), _kept_mean(args[0], removed, dims)
        return made, mean.reshape(made.shape)

    return both


def _affine(normal: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
    scaled = normal if weight is None else normal * weight
    return scaled if bias is None else scaled + bias


def _layer_norm(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    x, _, weight, bias, eps = args
    weights = _weights(x, removed)
    count = weights.sum(dims, keepdim=True)
    mean = x.masked_fill(removed, 0).sum(dims, keepdim=True) / count
    variance = ((x - mean) ** 2).masked_fill(removed, 0).sum(dims, keepdim=True) / count
    rstd = (variance + eps).rsqrt()
    return _affine((x - mean) * rstd, weight, bias).contiguous(), mean, rstd


def _rms_norm(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    x, _, weight, eps = args
    weights = _weights(x, removed)
    square = (x**2).masked_fill(removed, 0).sum(dims, keepdim=True) / weights.sum(dims, keepdim=True)
    rstd = (square + (torch.finfo(x.dtype).eps if eps is None else eps)).rsqrt()
    return _affine(x * rstd, weight, None).contiguous(), rstd


def _group_norm(args: list[Any], removed: torch.Tensor, _: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    x, weight, bias, batch, channels, _space, groups, eps = args
    weights = _weights(x, removed).reshape(batch, groups, -1)
    gone, grouped = weights == 0, x.reshape(batch, groups, -1)
    count = weights.sum(2, keepdim=True).clamp(min=1)  # a group may go as a whole
    mean = grouped.masked_fill(gone, 0).sum(2, keepdim=True) / count
    variance = ((grouped - mean) ** 2).masked_fill(gone, 0).sum(2, keepdim=True) / count
    rstd = (variance + eps).rsqrt()
    shape = [1, channels] + [1] * (x.dim() - 2)
    normal = ((grouped - mean) * rstd).reshape(x.shape)
    shaped = [None if value is None else value.reshape(shape) for value in (weight, bias)]
    return _affine(normal, *shaped), mean.squeeze(2), rstd.squeeze(2)


def _batch_norm(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Only where statistics come from the batch; a cut dimension holds weights then (weight standardisation)."""
    x, weight, bias, eps = args[0], args[1], args[2], args[-1]
    mean = _kept_mean(x, removed, dims)
    variance = _kept_mean((x - mean) ** 2, removed, dims)
    shape = [1, x.shape[1]] + [1] * (x.dim() - 2)
    shaped = [None if value is None else value.reshape(shape) for value in (weight, bias)]
    rstd = (variance + eps).rsqrt()
    return _affine((x - mean) * rstd, *shaped), mean.flatten(), rstd.flatten()


def _weight_norm(args: list[Any], removed: torch.Tensor, dims: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    v, g = args[0], args[1]
    norm = torch.linalg.vector_norm(v.masked_fill(removed, 0), dim=dims, keepdim=True)
    return v * (g / norm), norm


_STATISTICS: dict[str, Callable[[list[Any], torch.Tensor, tuple[int, ...]], Any]] = {
    "mean": _mean,
    "variance": _variance,
    "deviation": _deviation,
    "variance_and_mean": _with_mean(_variance),
    "deviation_and_mean": _with_mean(_deviation),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "weight_norm": _weight_norm,
}
