"""What a network computes twice from the same is computed once.

A linear layer looks at tokens through a view of its own, so the queries, keys and values of an attention read three
tensors where there is one; each would cross to other devices by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_map

from secateur.structure.program import Op, Program, Ref


def without_repeats(program: Program) -> tuple[Program, frozenset[int]]:
    """The program with whatever is made again read where it was made first, and the numbers of the operators that need
    not run any more. What looks into a tensor that something writes into stays as it is."""
    root = _roots(program)
    written = {root.get(number, number) for op in program.ops if op.target._schema.is_mutable for number in op.reads}
    first: dict[tuple[Any, str], list[int]] = {}
    same: dict[int, int] = {}
    ops: list[Op] = []
    idle: set[int] = set()
    for number, op in enumerate(program.ops):
        read = _reading(op, same)
        ops.append(read)
        key = (op.target, repr((read.args, read.kwargs)))
        if written.intersection(root.get(abs(number), abs(number)) for number in [*op.reads, *op.outputs]):
            continue
        known = first.setdefault(key, op.outputs)
        if known is op.outputs or torch.Tag.nondeterministic_seeded in op.target.tags:
            continue
        if all(tensor < 0 or there >= 0 for tensor, there in zip(op.outputs, known, strict=True)):
            same.update((tensor, there) for tensor, there in zip(op.outputs, known, strict=True) if tensor >= 0)
            idle.add(number)
    outputs = [same.get(tensor, tensor) for tensor in program.outputs]
    return replace(program, ops=ops, outputs=outputs), frozenset(idle)


def _roots(program: Program) -> dict[int, int]:
    """Of each view the tensor that it looks into in the end."""
    found: dict[int, int] = {}
    for op in program.ops:
        if op.reads and any(made.alias_info is not None for made in op.target._schema.returns):
            root = found.get(op.reads[0], op.reads[0])
            found |= dict.fromkeys((number for number in op.outputs if number != root), root)
    return found


def _reading(op: Op, same: Mapping[int, int]) -> Op:
    """The operator on the tensors that were made first."""

    def renamed(leaf: Any) -> Any:
        return Ref(same.get(leaf.id, leaf.id)) if isinstance(leaf, Ref) else leaf

    args, kwargs = tree_map(renamed, (op.args, op.kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))
    return Op(op.target, args, kwargs, op.outputs, op.module, op.call)
