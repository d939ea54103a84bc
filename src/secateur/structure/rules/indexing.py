"""Look-ups by index: the looked-up dimension stays whole, the others pass through."""

from __future__ import annotations

from secateur.structure.algebra import ONE, Node, atoms
from secateur.structure.program import Op, Ref, refs
from secateur.structure.rules.table import Dims, rule
from secateur.structure.tracker import Tracker


@rule("aten::embedding")
def embedding(t: Tracker, op: Op) -> Dims:
    table, index = t.of(op, 0), t.of(op, 1)
    t.pin(table[0], "indexed", "rows are looked up by index", op)
    return [*index, table[1]]


@rule("aten::index_select")
def index_select(t: Tracker, op: Op) -> Dims:
    dims, dim = list(t.of(op, 0)), op.args[1]
    t.pin(dims[dim], "indexed", "entries are looked up by index", op)
    dims[dim] = t.fixed(t.shape(op.outputs[0])[dim], "indexed", "entries are looked up by index", op)
    return dims


@rule("aten::index", "aten::_unsafe_index")
def index(t: Tracker, op: Op) -> Dims:
    dims, indices, shape = t.of(op, 0), op.args[1], t.shape(op.outputs[0])
    taken = [position for position, value in enumerate(indices) if isinstance(value, Ref)]
    for position in taken:
        _look_up(t, op, dims[position], indices[position].id)
    span = sum(len(t.dims(indices[position].id)) for position in taken if t.dtype(indices[position].id) == "bool")
    left = [node for position, node in enumerate(dims) if position not in taken and position < len(indices)]
    left += list(dims[max(len(indices), span) :]) if span > len(taken) else list(dims[len(indices) :])
    width = len(shape) - len(left)
    adjacent = taken == list(range(taken[0], taken[-1] + 1)) if taken else True
    start = taken[0] if taken and adjacent else 0
    made = [t.fixed(size, "indexed", "entries looked up by index", op) for size in shape[start : start + width]]
    return [*left[:start], *made, *left[start:]]


def _look_up(t: Tracker, op: Op, node: Node, index: int) -> None:
    """Keep the dimension whole, unless it is indexed by positions that were found along itself: these are found anew in
    a shorter one."""
    along = t.positions(index)
    if along is not None:
        t.unify(node, along, op)
        for part in atoms(node):
            part.marks.add("experts")
    else:
        t.pin(node, "indexed", "entries are looked up by index", op)


@rule("aten::gather", "aten::take_along_dim")
def gather(t: Tracker, op: Op) -> Dims:
    dims, dim = t.of(op, 0), op.args[1]
    chosen = t.of(op, 2)
    out: list[Node] = []
    for position, (node, own) in enumerate(zip(dims, chosen, strict=True)):
        along = position == dim % len(dims)
        if not along and node.size == own.size:
            t.unify(node, own, op)
            out.append(node)
            continue
        if along:
            _look_up(t, op, node, op.args[2].id)
        else:
            t.pin(node, "indexed", "entries are gathered by index", op)
        t.pin(own, "indexed", "positions of a gather", op)
        out.append(t.fixed(own.size, "indexed", "entries gathered by index", op))
    return out


@rule("aten::index_put")
def index_put(t: Tracker, op: Op) -> Dims:
    """Indexed dimensions stay whole; those after the indexed ones, which the values share, pass through."""
    dims, values = t.of(op, 0), t.of(op, 2)
    positions = [position for position, value in enumerate(op.args[1]) if isinstance(value, Ref)]
    bools = sum(len(t.dims(op.args[1][i].id)) - 1 for i in positions if t.dtype(op.args[1][i].id) == "bool")
    last = positions[-1] + bools
    for node in dims[: last + 1]:
        t.pin(node, "indexed", "entries are written by index", op)
    trailing = dims[last + 1 :]
    for offset, node in enumerate(reversed(values), start=1):
        if offset > len(trailing):
            t.pin(node, "indexed", "entries are written by index", op)
        elif node.size > 1:
            t.unify(node, trailing[-offset], op)
    return dims


@rule("aten::scatter", "aten::scatter_add", "aten::index_copy", "aten::index_add", "aten::index_fill")
def scatter(t: Tracker, op: Op) -> Dims:
    """Written by index along one dimension; the others of the same size as in what is written pass through."""
    dims, dim = t.of(op, 0), op.args[1] % max(1, len(t.of(op, 0)))
    for number in refs(op.args[2:]):
        others = t.dims(number)
        for position, node in enumerate(others):
            same = len(others) == len(dims) and position != dim and node.size == dims[position].size
            if same:
                t.unify(node, dims[position], op)
            else:
                t.pin(node, "indexed", "entries are written by index", op)
    for position, node in enumerate(dims):
        if position == dim:
            _look_up(t, op, node, op.args[2].id)
        elif not _passes(t, op, position, node):
            t.pin(node, "indexed", "entries are written by index", op)
    return dims


def _passes(t: Tracker, op: Op, position: int, node: Node) -> bool:
    """Whether all that is written spans the whole of the dimension."""
    written = [t.dims(number) for number in refs(op.args[2:])]
    return all(len(dims) <= position or dims[position].size == node.size for dims in written)


@rule("aten::nonzero", "aten::masked_select", "aten::_unique2", "torchvision::nms")
def by_value(t: Tracker, op: Op) -> list[Dims]:
    for number in refs(op.args):
        for node in t.dims(number):
            t.pin(node, "by-value", "the result's size depends on values", op)
    return [
        [
            t.fixed(size, "by-value", "a size that depends on values", op) if size != 1 else ONE
            for size in t.shape(number)
        ]
        for number in op.outputs
    ]
