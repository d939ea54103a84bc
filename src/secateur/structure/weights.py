"""What operators do with weights: which dimension a product reduces over, and which BatchNorm follows."""

from __future__ import annotations

from collections.abc import Iterator

from secateur.spec import NormAfter
from secateur.structure.program import Op, Program, Ref


def find_reads(program: Program) -> dict[str, int]:
    """Weight -> the dimension over which a convolution or matrix product with activations reduces."""
    return {weight: _read_dim(program.ops[number]) for number, weight in weights_read(program)}


def weights_read(program: Program) -> Iterator[tuple[int, str]]:
    """(operator number, name of the weight) of each convolution or matrix product of activations with a weight."""
    maker = {number: op for op in program.ops for number in op.outputs}
    for number, op in enumerate(program.ops):
        weight = _weight_of(op, maker, program)
        if weight is not None:
            yield number, weight


BATCH_NORMS = ("aten::native_batch_norm", "aten::_native_batch_norm_legit_no_training")


def find_norms(program: Program) -> list[NormAfter]:
    """Weights whose output goes straight into an affine BatchNorm, in order."""
    maker = {number: op for op in program.ops for number in op.outputs}
    found: list[NormAfter] = []
    for op in program.ops:
        if op.target._schema.name in BATCH_NORMS and isinstance(op.args[1], Ref) and op.args[1].id in program.named:
            before = maker.get(op.args[0].id)
            weight = _weight_of(before, maker, program) if before is not None else None
            if weight is not None and before is not None and _read_dim(before) == 1:
                scale = program.named[op.args[1].id]
                found.append(NormAfter(weight, scale.removesuffix("weight"), float(op.args[-1])))
    return found


def _read_dim(op: Op) -> int:
    return 0 if op.target._schema.name == "aten::convolution" and op.args[6] else 1


def _weight_of(op: Op, maker: dict[int, Op], program: Program) -> str | None:
    name = op.target._schema.name
    if name == "aten::convolution":
        return program.named.get(op.args[1].id)
    if name in ("aten::mm", "aten::addmm"):
        transposed = maker.get(op.args[-1].id)
        if transposed is not None and transposed.target._schema.name == "aten::t":
            return program.named.get(transposed.args[0].id)
    return None
