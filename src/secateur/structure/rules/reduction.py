"""Reductions over dimensions, and operators along one dimension that keep it (softmax, cumulative sums)."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.structure.algebra import ONE, Node
from secateur.structure.program import Op, Ref
from secateur.structure.rules.pointwise import lined_up
from secateur.structure.rules.table import Dims, Rule, rule
from secateur.structure.tracker import Tracker


def _reduced(rank: int, dims: Sequence[int] | int | None) -> list[int]:
    if dims is None or (not isinstance(dims, int) and len(dims) == 0):
        return list(range(rank))
    return sorted(dim % rank for dim in ([dims] if isinstance(dims, int) else dims)) if rank else []


def _drop(nodes: Dims, gone: Sequence[int], *, keepdim: bool) -> list[Node]:
    if keepdim:
        return [ONE if index in gone else node for index, node in enumerate(nodes)]
    return [node for index, node in enumerate(nodes) if index not in gone]


def _over(how: str, *, dim_index: int = 1, keepdim_index: int = 2) -> Rule:
    def reduction(t: Tracker, op: Op) -> list[Dims]:
        if len(op.args) > 1 and isinstance(op.args[1], Ref):
            return [lined_up(t, op)]  # the largest or smallest of two tensors, entry by entry
        x = t.of(op, 0)
        dims = t.arg(op, dim_index, op.kwargs.get("dim"))
        if isinstance(dims, bool) or not isinstance(dims, int | list | tuple):
            dims = None
        gone = _reduced(len(x), dims)
        t.reduce(op, 0, gone, how)
        out = _drop(x, gone, keepdim=bool(t.arg(op, keepdim_index, False)) and dims is not None)
        return [out for _ in op.outputs]

    return reduction


rule("aten::mean")(_over("mean"))
rule("aten::sum", "aten::nansum")(_over("zero"))
rule("aten::any")(_over("zero"))
rule("aten::all")(_over("one"))
rule("aten::prod")(_over("one"))
rule("aten::amax", "aten::max", "aten::logsumexp")(_over("lowest"))
rule("aten::amin", "aten::min")(_over("highest"))
rule("aten::linalg_vector_norm", "aten::norm")(_over("zero", dim_index=2, keepdim_index=3))
rule("aten::var")(_over("variance", keepdim_index=3))
rule("aten::std")(_over("deviation", keepdim_index=3))
rule("aten::var_mean")(_over("variance_and_mean", keepdim_index=3))
rule("aten::std_mean")(_over("deviation_and_mean", keepdim_index=3))


@rule("aten::argmax", "aten::argmin")
def extreme_position(t: Tracker, op: Op) -> Dims:
    """Positions are numbers of the whole dimension, which would be others in a shorter one."""
    x, dim = t.of(op, 0), t.arg(op, 1, None)
    gone = _reduced(len(x), dim)
    for index in gone:
        t.pin(x[index], "by-value", "the position of an entry is a number that the code uses", op)
    return _drop(x, gone, keepdim=bool(t.arg(op, 2, False)) and dim is not None)


@rule("aten::_softmax", "aten::_safe_softmax", "aten::_log_softmax", "aten::softmax")
def softmax(t: Tracker, op: Op) -> Dims:
    x = t.of(op, 0)
    t.reduce(op, 0, [t.arg(op, 1, -1) % max(1, len(x))], "lowest", in_place=True)
    return x


@rule("aten::cumsum")
def cumsum(t: Tracker, op: Op) -> Dims:
    x = t.of(op, 0)
    t.reduce(op, 0, [t.arg(op, 1, -1) % max(1, len(x))], "zero", in_place=True)
    return x


@rule("aten::cumprod")
def cumprod(t: Tracker, op: Op) -> Dims:
    x = t.of(op, 0)
    t.reduce(op, 0, [t.arg(op, 1, -1) % max(1, len(x))], "one", in_place=True)
    return x


@rule("aten::sort", "aten::argsort", "aten::mode", "aten::median")
def sort(t: Tracker, op: Op) -> list[Dims]:
    x = t.of(op, 0)
    dim = next((value for value in op.args[1:] if type(value) is int), op.kwargs.get("dim", -1))
    sorted_positions = t.positions(op.args[0].id)
    if sorted_positions is not None:
        t.place(op.outputs[0], sorted_positions)
    return reordered(t, op, x, dim, "entries are reordered by value")


def reordered(t: Tracker, op: Op, x: Dims, dim: int, detail: str) -> list[Dims]:
    """Outputs of an operator that puts the entries along a dimension into an order of its own."""
    if not x:
        return [x for _ in op.outputs]
    t.pin(x[dim], "by-value", detail, op)
    made: list[Dims] = []
    for number in op.outputs:
        out = list(x)
        shape = t.shape(number)
        if len(shape) == len(x):
            out[dim] = t.fixed(shape[dim], "by-value", detail, op)
        else:
            del out[dim % len(x)]
        made.append(out)
    return made
