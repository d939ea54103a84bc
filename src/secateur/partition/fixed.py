"""Networks that do the same for every input, which alone can be taken apart by what they did for one."""

from __future__ import annotations

from collections.abc import Collection

from secateur.spec import PlanError
from secateur.structure.program import Op, Program, last_reads

_LOOKING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::unique_dim")
"""What hands values, or sizes that depend on them, to the code."""


def demand_fixed(program: Program, folded: Collection[int]) -> None:
    """Raise PlanError where the forward looks at values, where it writes into a tensor that is read through another
    view later on, or where an output does not depend on the inputs."""
    for op in program.ops:
        if op.target._schema.name in _LOOKING and not set(folded).issuperset(op.reads):
            raise PlanError(
                f"{op.module or 'the model'} looks at values ({op.target._schema.name}): what it does depends on the "
                "input, and such networks cannot be taken apart"
            )
    for number in program.outputs:
        if number in folded:
            raise PlanError("an output of this network does not depend on its inputs; leave it out of what it returns")
    _demand_no_hidden_writes(program)


def _demand_no_hidden_writes(program: Program) -> None:
    last, base = last_reads(program), dict[int, int]()
    for place, op in enumerate(program.ops):
        written = _written(op)
        for number in written:
            root = base.get(number, number)
            for other, its in [*base.items(), (root, root)]:
                if its == root and other not in written and last.get(other, -1) > place:
                    raise PlanError(
                        f"{op.module or 'the model'} writes into a tensor ({op.target._schema.name}) that is read "
                        "later through another view; such networks cannot be taken apart"
                    )
        if not written and op.reads and _makes_views(op):
            base |= dict.fromkeys(op.outputs, base.get(op.reads[0], op.reads[0]))


def _written(op: Op) -> set[int]:
    """Tensors that the operator writes into."""
    return set(op.outputs) & set(op.reads) if op.target._schema.is_mutable else set()


def _makes_views(op: Op) -> bool:
    return any(made.alias_info is not None and not made.alias_info.is_write for made in op.target._schema.returns)
