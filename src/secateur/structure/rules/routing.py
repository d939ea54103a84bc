"""Entries picked by value, as routers pick experts: positions along an axis are found anew when it is shorter."""

from __future__ import annotations

from secateur.structure.program import Op
from secateur.structure.rules.indexing import by_value
from secateur.structure.rules.table import Dims, rule
from secateur.structure.tracker import Tracker


@rule("aten::topk", "aten::kthvalue")
def topk(t: Tracker, op: Op) -> list[Dims]:
    """The largest of the entries that stay; their positions are followed to where they are used."""
    x = t.of(op, 0)
    if not x:
        return [x, x]
    count, dim = int(op.args[1]), t.arg(op, 2, -1) % len(x)
    largest = "kthvalue" not in op.target._schema.name and t.arg(op, 3, True)
    t.reduce(op, 0, [dim], "lowest" if largest else "highest")
    t.at_least(x[dim], count)
    t.place(op.outputs[1], x[dim])
    made: list[Dims] = []
    for number in op.outputs:
        out, shape = list(x), t.shape(number)
        if len(shape) == len(x):
            out[dim] = t.fixed(shape[dim], "by-value", "the largest entries, in order", op)
        else:
            del out[dim]
        made.append(out)
    return made


@rule("aten::histc", "aten::bincount")
def count(t: Tracker, op: Op) -> Dims | list[Dims]:
    """How often each position along an axis occurs: one number for each of its entries."""
    axis = t.positions(op.args[0].id)
    if axis is None or t.shape(op.outputs[0]) != (axis.size,):
        return by_value(t, op)
    for node in t.of(op, 0):
        t.pin(node, "by-value", "entries are counted by value", op)
    return [[axis]]
