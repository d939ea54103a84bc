"""How tensors flow through a captured program: what part of it can be left out, and whether a shorter one is the same
without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from secateur.structure.program import BlockCall, Op, Program, Ref, refs


class Flow:
    """When each tensor of a program is made, read and written, by operator number."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.returned = set(program.outputs)
        self._born: dict[int, int] = {}
        self._base: dict[int, int] = {}
        self._reads: dict[int, list[int]] = {}
        self._writes: dict[int, list[int]] = {}
        for number, op in enumerate(program.ops):
            self._meet(number, op)

    def _meet(self, number: int, op: Op) -> None:
        for read in op.reads:
            self._born.setdefault(read, -1)  # it was there before
            self._reads.setdefault(read, []).append(number)
        for written in _written(op):
            self._writes.setdefault(self._memory(written), []).append(number)
        viewed = next(iter(op.reads), None) if _is_view(op) else None
        for made in op.outputs:
            if made not in self._born:
                self._born[made] = number
                self._base[made] = made if viewed is None else self._memory(viewed)

    def _memory(self, tensor: int) -> int:
        """The tensor whose memory this one is, or is a view of."""
        return self._base.get(tensor, tensor)

    def problem(self, call: BlockCall) -> str | None:
        """Why the input of a block cannot stand in for its output in what follows, or None where it can."""
        inside = {made for op in self.program.ops[call.start : call.stop] for made in op.outputs}
        for made in sorted(inside - {call.made}):
            if self._born[made] >= call.start and self._is_used_after(made, call.stop):
                return "the rest of the forward reads more of what the block computes than its output"
        for memory, writes in self._writes.items():
            if self._born.get(memory, -1) < call.start and any(call.start <= number < call.stop for number in writes):
                return "the block writes into a tensor that was there before it"
        for tensor, name in self.program.named.items():
            if name.startswith(f"{call.path}.") and self._is_used_outside(tensor, call):
                return f"{name} is read outside of the block"
        if {call.given, call.made} <= self.returned:
            return "the model returns both its input and its output"
        overwritten = any(number >= call.stop for number in self._writes.get(self._memory(call.made), ()))
        if overwritten and self._is_used_after(call.given, call.stop):
            return "its output is written over while its input is still read"
        return None

    def _is_used_after(self, tensor: int, stop: int) -> bool:
        return tensor in self.returned or any(number >= stop for number in self._reads.get(tensor, ()))

    def _is_used_outside(self, tensor: int, call: BlockCall) -> bool:
        reads = self._reads.get(tensor, ())
        return tensor in self.returned or any(not call.start <= number < call.stop for number in reads)


def _written(op: Op) -> Iterator[int]:
    for argument, value in zip(op.target._schema.arguments, op.args, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from refs(value)


def _is_view(op: Op) -> bool:
    return any(made.alias_info is not None for made in op.target._schema.returns)


def difference(program: Program, gone: Sequence[BlockCall], shorter: Program) -> str | None:
    """How the program of a model that lost these blocks differs from this program without their operators, where the
    input of each stands in for its output; None where it does not."""
    match = _Match(program, gone, shorter)
    inside = {number for call in gone for number in range(call.start, call.stop)}
    ops = [op for number, op in enumerate(program.ops) if number not in inside]
    for op, other in zip(ops, shorter.ops, strict=False):
        if op.target is not other.target or not match.same([op.args, op.kwargs], [other.args, other.kwargs]):
            return f"{op.module or 'the model'} does something else"
        match.made(op.outputs, other.outputs)
    if len(ops) != len(shorter.ops):
        return "the forward is another one"
    if not match.same([Ref(number) for number in program.outputs], [Ref(number) for number in shorter.outputs]):
        return "the model returns something else"
    return None


class _Match:
    """Which tensor of the shorter program is which of the longer one."""

    def __init__(self, program: Program, gone: Sequence[BlockCall], shorter: Program) -> None:
        self.passed = {call.made: call.given for call in gone}
        self.open = program.constants.keys(), shorter.constants.keys()
        lost = tuple(f"{call.path}." for call in gone)
        left = [number for number, name in program.named.items() if not name.startswith(lost)]
        self.twin = dict(zip([*left, *program.inputs], [*shorter.named, *shorter.inputs], strict=False))

    def made(self, outputs: Sequence[int], others: Sequence[int]) -> None:
        """Note that an operator made the same in both."""
        self.twin.update(zip(outputs, others, strict=True))

    def same(self, value: Any, other: Any) -> bool:
        """Whether two arguments are the same."""
        if isinstance(value, Ref) and isinstance(other, Ref):
            return self._same_tensor(value.id, other.id)
        if isinstance(value, list | tuple) and isinstance(other, list | tuple):
            return len(value) == len(other) and all(map(self.same, value, other))
        if isinstance(value, dict) and isinstance(other, dict):
            return value.keys() == other.keys() and all(self.same(value[key], other[key]) for key in value)
        return value == other

    def _same_tensor(self, tensor: int, other: int) -> bool:
        while tensor in self.passed:
            tensor = self.passed[tensor]
        if tensor not in self.twin and tensor in self.open[0] and other in self.open[1]:
            self.twin[tensor] = other  # a constant of the code, met for the first time
        return self.twin.get(tensor) == other
