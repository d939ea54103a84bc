"""Depth: residual blocks, which can leave as a whole.

A residual block adds something to its input, so its output has the very axes of its input, and the input can stand in
for the output. Where code of the model's own walks the list of the blocks, whether the rest of the forward would run as
before is not guessed: a copy of the model loses a block of each list and is captured again, and its program must be the
one before, without the operators of those blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from secateur.spec import Pin, TraceError
from secateur.structure.algebra import Node, atoms, factors, find, parts
from secateur.structure.flow import Flow, difference
from secateur.structure.program import BlockCall, Op, Program, refs
from secateur.structure.tracker import Tracker

Shorten = Callable[[Collection[str]], Program]
"""From paths of blocks to the program of the model without them; raises TraceError where its forward fails."""


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

    def holds(self, other: ResidualBlock) -> bool:
        """Whether the other one is inside."""
        return other.path.startswith(f"{self.path}.")


def find_blocks(model: nn.Module, program: Program, tracker: Tracker, shorten: Shorten) -> list[ResidualBlock]:
    """The residual blocks of a program that the tracker has just run, in order; pinned where they cannot leave.

    Where blocks hold others, the inner ones that can leave are found, else the outer one.
    """
    runs = Counter(call.path for call in program.blocks)
    first = {call.path: call for call in reversed(program.blocks)}
    found = [ResidualBlock(call, _feature_dim(call, tracker)) for call in first.values() if _adds(call, tracker)]
    if not found:
        return []
    flow, shared = Flow(program), _shared(model)
    for block in found:
        block.pin = _reason(block, flow, runs[block.path], shared)
    return sorted(_grain(found, model, program, shorten), key=lambda block: block.call.start)


def _grain(
    found: list[ResidualBlock], model: nn.Module, program: Program, shorten: Shorten
) -> list[ResidualBlock]:
    """Of blocks inside one another the innermost that can leave; of those that cannot, the outermost."""
    free: list[ResidualBlock] = []
    waiting = list(found)
    while waiting:
        innermost = [block for block in waiting if not any(block.holds(other) for other in waiting)]
        waiting = [block for block in waiting if block not in innermost]
        able = [block for block in innermost if block.pin is None and not any(block.holds(other) for other in free)]
        _try_without([block for block in able if not _is_in_sequence(block, model)], program, shorten)
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
        used = set(refs([op.args, op.kwargs]))
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


def _is_in_sequence(block: ResidualBlock, model: nn.Module) -> bool:
    """Whether it ran as a part of a `Sequential`, which runs with any number of parts."""
    parent = block.path.rpartition(".")[0]
    return block.call.caller == parent and type(model.get_submodule(parent)).forward is nn.Sequential.forward


def _try_without(blocks: Sequence[ResidualBlock], program: Program, shorten: Shorten) -> None:
    """Pin the blocks of the lists of which no block can be taken out without changing what the others do.

    The first of a list is taken out, so that all others move up. All lists are tried at once, which mostly succeeds,
    and one by one where that fails, unless the model looks at values: then each try takes the time of a real forward.
    """
    lists: dict[str, list[ResidualBlock]] = {}
    for block in blocks:
        lists.setdefault(block.path.rpartition(".")[0], []).append(block)
    groups = list(lists.values())
    problem = _problem([own[0] for own in groups], program, shorten) if groups else None
    if problem is None:
        return
    for own in groups:
        if len(groups) > 1 and program.device.type == "meta":
            problem = _problem(own[:1], program, shorten)
        for block in own if problem is not None else ():
            block.pin = Pin("entangled", f"without {own[0].path}, {problem}", block.path)


def _problem(gone: Sequence[ResidualBlock], program: Program, shorten: Shorten) -> str | None:
    calls = [block.call for block in gone]
    try:
        return difference(program, calls, shorten([call.path for call in calls]))
    except TraceError as error:
        return f"the forward fails: {error}"
