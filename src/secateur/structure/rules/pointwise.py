"""Elementwise operators: dimensions that broadcasting lines up are the same dimension."""

from __future__ import annotations

from secateur.structure.algebra import ONE, Node
from secateur.structure.program import Op
from secateur.structure.rules.table import Dims, rule
from secateur.structure.tracker import Tracker


@rule(
    "pointwise",
    "aten::hardswish",
    "aten::masked_fill",
    "aten::where",
    "aten::copy",
    "aten::clone",
    "aten::detach",
    "aten::alias",
    "aten::lift_fresh",
    "aten::lift_fresh_copy",
    "aten::_to_copy",
    "aten::contiguous",
    "aten::fill",
    "aten::zero",
    "aten::zeros_like",
    "aten::ones_like",
    "aten::empty_like",
    "aten::full_like",
    "aten::rand_like",
    "aten::randn_like",
    "aten::bernoulli",
    "aten::native_dropout",
    "aten::uniform",
    "aten::normal",
    "aten::exponential",
    "aten::clamp",
    "aten::isnan",
    "aten::nan_to_num",
    "aten::view_as_real_copy",
    "aten::_conj",
    "aten::rrelu_with_noise",
)
def pointwise(t: Tracker, op: Op) -> list[Dims]:
    return [lined_up(t, op) for _ in op.outputs]


def lined_up(t: Tracker, op: Op) -> list[Node]:
    """Dimensions of the output when all tensors among the arguments are broadcast against each other."""
    rank = len(t.shape(op.outputs[0]))
    dims: list[Node] = [ONE] * rank
    for number in op.reads:
        for offset, node in enumerate(reversed(t.dims(number)), start=1):
            if node.size == 1 or offset > rank:
                continue
            if dims[-offset] is ONE:
                dims[-offset] = node
            else:
                t.unify(dims[-offset], node, op)
    return dims


@rule("aten::prelu", "aten::_prelu_kernel")
def prelu(t: Tracker, op: Op) -> Dims:
    dims, slope = t.of(op, 0), t.of(op, 1)
    if len(slope) > 1:  # torch has placed it already
        return lined_up(t, op)
    if slope and slope[0].size > 1:
        t.unify(dims[1], slope[0], op)
    return dims


@rule("aten::glu")
def glu(t: Tracker, op: Op) -> Dims:
    dims, dim = list(t.of(op, 0)), t.arg(op, 1, -1)
    half = dims[dim].size // 2
    left, right = t.cut(dims[dim], [half, half], op)
    t.unify(left, right, op)
    dims[dim] = left
    return dims
