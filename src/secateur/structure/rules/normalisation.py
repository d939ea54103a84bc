"""Norms: statistics over some dimensions, parameters along others."""

from __future__ import annotations

from secateur.structure.algebra import ONE, atoms
from secateur.structure.program import Op, Ref
from secateur.structure.rules.table import Dims, rule
from secateur.structure.tracker import Tracker


@rule(
    "aten::native_batch_norm",
    "aten::_native_batch_norm_legit",
    "aten::_native_batch_norm_legit_functional",
    "aten::_native_batch_norm_legit_no_training",
    "aten::_batch_norm_with_update",
    "aten::_batch_norm_no_update",
    "aten::cudnn_batch_norm",
)
def batch_norm(t: Tracker, op: Op) -> list[Dims]:
    x = t.of(op, 0)
    for value in op.args[1:5]:
        if isinstance(value, Ref):
            t.unify(t.dims(value.id)[0], x[1], op)
    if _uses_batch(op):
        t.reduce(op, 0, [dim for dim in range(len(x)) if dim != 1], "batch_norm", in_place=True)
    statistics = [
        [x[1] if size == x[1].size else t.fixed(size, "statistics", "saved statistics", op)]
        for size in (t.shape(number)[0] if number >= 0 and t.shape(number) else 1 for number in op.outputs[1:])
    ]
    return [x, *statistics]


def _uses_batch(op: Op) -> bool:
    """Whether the statistics are those of the input: in train mode, or where the code normalises a weight."""
    names = [argument.name for argument in op.target._schema.arguments]
    return "training" in names and bool(op.args[names.index("training")])


@rule("aten::native_layer_norm")
def layer_norm(t: Tracker, op: Op) -> list[Dims]:
    x, count = t.of(op, 0), len(op.args[1])
    for index in (2, 3):
        if op.args[index] is not None:
            for node, own in zip(x[-count:], t.of(op, index), strict=True):
                t.unify(node, own, op)
    t.reduce(op, 0, range(len(x) - count, len(x)), "layer_norm", in_place=True)
    statistics = [*x[:-count], *[ONE] * count]
    return [x, statistics, statistics]


@rule("aten::_fused_rms_norm")
def rms_norm(t: Tracker, op: Op) -> list[Dims]:
    x, count = t.of(op, 0), len(op.args[1])
    if isinstance(op.args[2], Ref):
        for node, own in zip(x[-count:], t.of(op, 2), strict=True):
            t.unify(node, own, op)
    t.reduce(op, 0, range(len(x) - count, len(x)), "rms_norm", in_place=True)
    return [x, [*x[:-count], *[ONE] * count]]


@rule("aten::native_group_norm")
def group_norm(t: Tracker, op: Op) -> list[Dims]:
    x, groups = t.of(op, 0), int(op.args[6])
    for index in (1, 2):
        if isinstance(op.args[index], Ref):
            t.unify(t.of(op, index)[0], x[1], op)
    group, per_group = t.split(x[1], [groups, x[1].size // groups], op)
    t.pieces_of(op, [group])
    if group.size > 1 and per_group.size > 1:
        for part in atoms(group):
            part.marks.add("groups")
        for part in atoms(per_group):
            part.marks.add("group_width")
    t.reduce(op, 0, [1], "group_norm", in_place=True)
    return [x, [x[0], group], [x[0], group]]


@rule("aten::_weight_norm_interface")
def weight_norm(t: Tracker, op: Op) -> list[Dims]:
    v, g, dim = t.of(op, 0), t.of(op, 1), t.arg(op, 2, 0)
    t.unify(v[dim], g[dim], op)
    others = [index for index in range(len(v)) if index != dim]
    t.reduce(op, 0, others, "weight_norm", in_place=True)
    return [v, g]
