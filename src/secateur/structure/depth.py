"""Depth: residual blocks, which can leave as a whole.

A residual block adds something to its input, so its output has the very axes of its input, and the input can stand in
for the output. Where code of the model's own walks the list of the blocks, whether the rest of the forward would run as
before is not guessed: a copy of the model loses a block of each list and is captured again, and its program must be the
one before, without the operators of those blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from secateur.spec import Pin, Row, TraceError
from secateur.structure.algebra import Node, atoms, factors, find, parts
from secateur.structure.flow import Flow, difference
from secateur.structure.lists import remove_children
from secateur.structure.program import BlockCall, Op, Program
from secateur.structure.rows import find_rows
from secateur.structure.tracker import Tracker

Recapture = Callable[[Callable[[nn.Module], object]], Program]
"""From a change of the model to the program of a copy of it after the change; raises TraceError where that fails."""


@dataclass
class ResidualBlock:
    """A child of a `Sequential` or `ModuleList` that adds something to its first input and returns that first."""

    call: BlockCall
    dim: int
    """Dimension of its input along which features stand; the others are samples and positions."""
    pin: Pin | None = None

    @property
    def path(self) -> str:
        """Of the module."""
        return self.call.path

    @property
    def list(self) -> str:
        """Path of the `Sequential` or `ModuleList`."""
        return self.path.rpartition(".")[0]

    def holds(self, other: ResidualBlock) -> bool:
        """Whether the other one is inside."""
        return other.path.startswith(f"{self.path}.")


@dataclass(frozen=True)
class Depth:
    """The residual blocks of a program, in the order in which they run, and the lists with an entry for each."""

    blocks: tuple[ResidualBlock, ...] = ()
    rows: tuple[Row, ...] = ()


def find_depth(model: nn.Module, program: Program, tracker: Tracker, recapture: Recapture) -> Depth:
    """The residual blocks of a program that the tracker has just run; pinned where they cannot leave.

    Where blocks hold others, the inner ones that can leave are found, else the outer one.
    """
    runs = Counter(call.path for call in program.blocks)
    calls = {call.path: call for call in sorted(program.blocks, key=lambda call: call.start)}
    found = [ResidualBlock(call, _feature_dim(call, tracker)) for call in calls.values() if _adds(call, tracker)]
    if not found:
        return Depth()
    flow, shared, rows = Flow(program), _shared(model), dict(find_rows(model, program))
    for block in found:
        block.pin = _reason(block, flow, runs[block.path], shared) or _bound_by_row(block, rows)

    def shorter(gone: Sequence[ResidualBlock]) -> Program:
        return recapture(lambda copy: remove_children(copy, [block.path for block in gone], tuple(rows)))

    kept = _grain(found, lambda blocks: _try_without(_walked(blocks, model), program, shorter))
    blocks = tuple(sorted(kept, key=lambda block: block.call.start))
    lists = {block.list for block in blocks if block.pin is None}
    return Depth(blocks, tuple(row for row in rows if row.list in lists))


def _grain(found: list[ResidualBlock], judge: Callable[[Sequence[ResidualBlock]], None]) -> list[ResidualBlock]:
    """Of blocks inside one another the innermost that can leave; of those that cannot, the outermost."""
    free: list[ResidualBlock] = []
    waiting = list(found)
    while waiting:
        innermost = [block for block in waiting if not any(block.holds(other) for other in waiting)]
        waiting = [block for block in waiting if block not in innermost]
        able = [block for block in innermost if block.pin is None and not any(block.holds(other) for other in free)]
        judge(able)
        free += [block for block in able if block.pin is None]
    held = [block for block in found if block.pin is not None]
    beside = [block for block in held if not any(block.holds(other) or other.holds(block) for other in free)]
    return free + [block for block in beside if not any(other.holds(block) for other in beside)]


# What a residual block is.


def _adds(call: BlockCall, tracker: Tracker) -> bool:
    """Whether some operator adds what the block computes to its input, and the output has the axes of the input."""
    axes = tracker.dims(call.given)
    if not _same_all(axes, tracker.dims(call.made)) or not _weights(call, tracker):
        return False
    carried: set[int] = {call.given}
    computed: set[int] = set()
    for op in tracker.program.ops[call.start : call.stop]:
        used = set(op.reads)
        if used & carried and used & computed:
            if op.target._schema.name in _SUMS and _same_all(tracker.dims(op.outputs[0]), axes):
                return True
            computed |= set(op.outputs)
        elif used & carried:
            (carried if _carries(op) else computed).update(op.outputs)
        elif used & computed:
            computed |= set(op.outputs)
    return False


_SUMS = ("aten::add", "aten::add_")
_COPIES = ("aten::clone", "aten::_to_copy", "aten::mul", "aten::div")


def _carries(op: Op) -> bool:
    """Whether the output is the input again: a view, a copy, or scaled."""
    schema = op.target._schema
    return schema.name in _COPIES or any(made.alias_info and not made.alias_info.is_write for made in schema.returns)


def _same_all(left: Sequence[Node], right: Sequence[Node]) -> bool:
    return len(left) == len(right) and all(_same(a, b) for a, b in zip(left, right, strict=True))


def _same(a: Node, b: Node) -> bool:
    a, b = find(a), find(b)
    if a is b:
        return True
    inside = factors if a.kind == "product" else parts
    return a.kind == b.kind != "atom" and _same_all(list(inside(a)), list(inside(b)))


def _weights(call: BlockCall, tracker: Tracker) -> list[tuple[Node, ...]]:
    """Dimensions of the tensors that the block holds."""
    return [dims for name, dims in tracker.named.items() if name.startswith(f"{call.path}.")]


def _feature_dim(call: BlockCall, tracker: Tracker) -> int:
    """The dimension that most of the block's parameters share; the last of these."""
    standing = Counter(id(atom) for dims in _weights(call, tracker) for node in dims for atom in atoms(node))
    counts = [sum(standing[id(atom)] for atom in atoms(node)) for node in tracker.dims(call.given)]
    return max(range(len(counts)), key=lambda dim: (counts[dim], dim), default=0)


# Why a residual block must stay.


def _shared(model: nn.Module) -> list[list[str]]:
    """The names of each parameter or buffer that the model holds under several."""
    names: dict[int, list[str]] = {}
    for held in (model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)):
        for name, tensor in held:
            names.setdefault(id(tensor), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _reason(block: ResidualBlock, flow: Flow, runs: int, shared: Iterable[Sequence[str]]) -> Pin | None:
    if runs > 1:
        return Pin("shared", f"the block runs {runs} times in one forward", block.path)
    for group in shared:
        outside = [name for name in group if not name.startswith(f"{block.path}.")]
        if 0 < len(outside) < len(group):
            return Pin("shared", f"the block holds a tensor that {outside[0]} is, too", block.path)
    problem = flow.problem(block.call)
    return None if problem is None else Pin("entangled", problem, block.path)


def _bound_by_row(block: ResidualBlock, rows: Mapping[Row, bool]) -> Pin | None:
    for row, alone in rows.items():
        if row.list == block.list and not alone:
            return Pin("entangled", f"entries of {row.name} are read for the block, and for more", block.path)
    return None


def _walked(blocks: Iterable[ResidualBlock], model: nn.Module) -> list[ResidualBlock]:
    """Those that code of the model's own ran; a `Sequential` that runs as such does so with any number of parts."""

    def is_in_sequence(block: ResidualBlock) -> bool:
        forward = type(model.get_submodule(block.list)).forward
        return block.call.caller == block.list and forward is nn.Sequential.forward

    return [block for block in blocks if not is_in_sequence(block)]


def _try_without(
    blocks: Sequence[ResidualBlock], program: Program, shorter: Callable[[Sequence[ResidualBlock]], Program]
) -> None:
    """Pin the blocks that cannot be taken out of their list without changing what the others do.

    The first of a list is taken out, so that all others move up: where these do what they did, so they do when any
    other leaves. Where not, the first may be a special one, so the second is tried. All lists are tried at once, which
    mostly succeeds, and one by one where that fails, unless the model looks at values: then each try takes the time of
    a real forward.
    """

    def problem_without(gone: Sequence[ResidualBlock]) -> str | None:
        try:
            return difference(program, [block.call for block in gone], shorter(gone))
        except TraceError as error:
            return f"the forward fails: {error}"

    lists: dict[str, list[ResidualBlock]] = {}
    for block in blocks:
        lists.setdefault(block.list, []).append(block)
    problem = problem_without([own[0] for own in lists.values()]) if lists else None
    if problem is None:
        return
    by_value = program.device.type != "meta"
    for own in lists.values():
        reason = problem if by_value or len(lists) == 1 else problem_without(own[:1])
        special = reason is not None and not by_value and len(own) > 1 and problem_without(own[1:2]) is None
        for block in own[:1] if special else own:
            block.pin = None if reason is None else Pin("entangled", f"without {own[0].path}, {reason}", block.path)
