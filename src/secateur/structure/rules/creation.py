"""Tensors made from nothing: constants have free dimensions, numbered ones (`arange`) stay whole."""

from __future__ import annotations

from secateur.structure.algebra import atom
from secateur.structure.program import Op
from secateur.structure.rules.table import Dims, rule
from secateur.structure.tracker import Tracker


@rule(
    "aten::zeros",
    "aten::ones",
    "aten::empty",
    "aten::full",
    "aten::rand",
    "aten::randn",
    "aten::new_zeros",
    "aten::new_ones",
    "aten::new_empty",
    "aten::new_full",
    "aten::scalar_tensor",
    "aten::empty_strided",
    "aten::new_empty_strided",
)
def constant(t: Tracker, op: Op) -> Dims:
    return [atom(size) for size in t.shape(op.outputs[0])]


@rule("aten::arange", "aten::linspace", "aten::eye", "aten::randperm", "aten::randint", "aten::one_hot")
def numbered(t: Tracker, op: Op) -> Dims:
    return [
        t.fixed(size, "numbered", "entries are numbers that depend on their position", op)
        for size in t.shape(op.outputs[0])
    ]


@rule("aten::_local_scalar_dense", "aten::item", "prim::device", "aten::is_same_size", "aten::equal", "aten::sym_size")
def no_tensor(_: Tracker, op: Op) -> list[Dims]:
    return [() for _ in op.outputs]
