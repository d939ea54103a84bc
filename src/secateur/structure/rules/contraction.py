"""Matrix products and convolutions: the operators that hold the network's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.structure.algebra import Misfit, Node, atoms, merge
from secateur.structure.program import Op
from secateur.structure.rules.table import Dims, rule
from secateur.structure.tracker import Tracker


@rule("aten::mm", "aten::matmul")
def mm(t: Tracker, op: Op) -> Dims:
    (rows, inner), (inner_too, columns) = t.of(op, 0), t.of(op, 1)
    return _product(t, op, 0, 1, [rows], inner, inner_too, [columns])


@rule("aten::addmm", "aten::addmv")
def addmm(t: Tracker, op: Op) -> Dims:
    rows, inner = t.of(op, 1)
    inner_too, *columns = t.of(op, 2)
    out = _product(t, op, 1, 2, [rows], inner, inner_too, columns)
    _line_up(t, op, t.of(op, 0), out)
    return out


@rule("aten::bmm")
def bmm(t: Tracker, op: Op) -> Dims:
    (batch, rows, inner), (batch_too, inner_too, columns) = t.of(op, 0), t.of(op, 1)
    t.unify(batch, batch_too, op)
    return _product(t, op, 0, 1, [batch, rows], inner, inner_too, [columns], batch=batch)


@rule("aten::baddbmm")
def baddbmm(t: Tracker, op: Op) -> Dims:
    (batch, rows, inner), (batch_too, inner_too, columns) = t.of(op, 1), t.of(op, 2)
    t.unify(batch, batch_too, op)
    out = _product(t, op, 1, 2, [batch, rows], inner, inner_too, [columns], batch=batch)
    _line_up(t, op, t.of(op, 0), out)
    return out


@rule("aten::_grouped_mm")
def grouped_mm(t: Tracker, op: Op) -> Dims:
    """Each run of rows (as the offsets say) times its own matrix: experts after routing."""
    left, right = t.of(op, 0), t.of(op, 1)
    if len(left) != 2 or len(right) != 3:
        raise Misfit("only rows against a stack of matrices is followed")
    (rows, inner), (experts, inner_too, columns) = left, right
    t.pin(rows, "by-value", "rows are routed to experts by value", op)
    t.unify(experts, t.of(op, 2)[0], op)
    for part in atoms(experts):
        part.marks.add("experts")
    t.unify(inner, inner_too, op)
    t.reduce(op, 0, [1], "zero")
    t.macs([rows, inner, columns])
    for node in (inner, columns):
        t.align(node, 16 // t.program.dtypes[op.outputs[0]].itemsize)  # the kernel wants strides of whole 16 bytes
    return [rows, columns]


@rule("aten::mv")
def mv(t: Tracker, op: Op) -> Dims:
    (rows, inner), (inner_too,) = t.of(op, 0), t.of(op, 1)
    return _product(t, op, 0, 1, [rows], inner, inner_too, [])


@rule("aten::dot", "aten::vdot")
def dot(t: Tracker, op: Op) -> Dims:
    (inner,), (inner_too,) = t.of(op, 0), t.of(op, 1)
    return _product(t, op, 0, 1, [], inner, inner_too, [])


def _product(
    t: Tracker,
    op: Op,
    left: int,
    right: int,
    rows: Sequence[Node],
    inner: Node,
    inner_too: Node,
    columns: Sequence[Node],
    *,
    batch: Node | None = None,
) -> list[Node]:
    t.unify(inner, inner_too, op)
    t.reduce(op, left, [len(rows)], "zero")
    t.reduce(op, right, [len(t.of(op, right)) - 1 - len(columns)], "zero")
    t.macs([*rows, inner, *columns])
    if batch is not None:
        _mark_heads(batch, [rows[-1], inner, *columns])
    return [*rows, *columns]


def _mark_heads(batch: Node, inside: Sequence[Node]) -> None:
    """In a batched product of activations the batch holds heads, and what is inside holds their width."""
    for head in atoms(batch):
        head.marks.add("heads")
    for node in inside:
        for part in atoms(node):
            part.marks.add("inside")


def _line_up(t: Tracker, op: Op, bias: Dims, out: Dims) -> None:
    for offset, node in enumerate(reversed(bias), start=1):
        if node.size > 1:
            t.unify(node, out[-offset], op)


@rule("aten::convolution", "aten::_convolution", "aten::convolution_overrideable")
def convolution(t: Tracker, op: Op) -> Dims:
    x, weight = t.of(op, 0), t.of(op, 1)
    transposed, groups = t.arg(op, 6, False), t.arg(op, 8, 1)
    space = t.shape(op.outputs[0])[-(len(weight) - 2) :]
    batch, channels = (x[0], x[1]) if len(x) == len(weight) else (None, x[0])
    for node in [*x[-len(space) :], *weight[2:]]:
        t.pin(node, "spatial", "a spatial dimension of a convolution", op)
    if groups == 1:
        into, out = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
        t.unify(channels, into, op)
    else:
        into, out = _grouped(t, op, channels, weight, int(groups), transposed=transposed)
    if op.args[2] is not None:
        t.unify(t.of(op, 2)[0], out, op)
    t.reduce(op, 0, [len(x) - len(space) - 1], "zero")
    fixed = [t.fixed(size, "spatial", "a spatial dimension of a convolution", op) for size in space]
    lead = [] if batch is None else [batch]
    t.macs([*lead, out, into, *(x[-len(space) :] if transposed else fixed), *weight[2:]])
    return [*lead, out, *fixed]


def _grouped(t: Tracker, op: Op, channels: Node, weight: Dims, groups: int, *, transposed: bool) -> tuple[Node, Node]:
    """Channels are `groups x channels per group` on both sides; returns (inputs per group, outputs)."""
    group, per_group = t.split(channels, [groups, channels.size // groups], op)
    if transposed:
        t.unify(weight[0], channels, op)
        out = merge([group, weight[1]])
        inside = [per_group, weight[1]]
    else:
        t.unify(weight[1], per_group, op)
        outer, out_per_group = t.split(weight[0], [groups, weight[0].size // groups], op)
        t.unify(outer, group, op)
        out, inside = weight[0], [per_group, out_per_group]
    t.pieces_of(op, [group])
    if per_group.size > 1:  # a depthwise group is the channel itself
        for part in atoms(group):
            part.marks.add("groups")
        for node in inside:
            for part in atoms(node):
                part.marks.add("group_width")
    return per_group, out
