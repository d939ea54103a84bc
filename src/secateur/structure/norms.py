"""Which BatchNorm follows which weight: its scale is part of what the weight does."""

from __future__ import annotations

from secateur.spec import NormAfter
from secateur.structure.program import Op, Program, Ref

_BATCH_NORMS = ("aten::native_batch_norm", "aten::_native_batch_norm_legit_no_training")


def find_norms(program: Program) -> list[NormAfter]:
    """Weights whose output goes straight into an affine BatchNorm, in order."""
    maker = {number: op for op in program.ops for number in op.outputs}
    found: list[NormAfter] = []
    for op in program.ops:
        if op.target._schema.name in _BATCH_NORMS and isinstance(op.args[1], Ref) and op.args[1].id in program.named:
            weight = _weight_of(maker.get(op.args[0].id), maker, program)
            if weight is not None:
                scale = program.named[op.args[1].id]
                found.append(NormAfter(weight, scale.removesuffix("weight"), float(op.args[-1])))
    return found


def _weight_of(op: Op | None, maker: dict[int, Op], program: Program) -> str | None:
    if op is None:
        return None
    name = op.target._schema.name
    if name == "aten::convolution" and not op.args[6]:
        return program.named.get(op.args[1].id)
    if name in ("aten::mm", "aten::addmm"):
        transposed = maker.get(op.args[-1].id)
        if transposed is not None and transposed.target._schema.name == "aten::t":
            return program.named.get(transposed.args[0].id)
    return None
