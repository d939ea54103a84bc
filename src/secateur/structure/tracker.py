"""Walks a captured program with the rule table and keeps the dimensions of every tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.spec import Pin
from secateur.structure import algebra
from secateur.structure.algebra import Misfit, Node
from secateur.structure.program import Op, Program, Ref

_CARRYING = frozenset(
    {
        "aten::view",
        "aten::_unsafe_view",
        "aten::reshape",
        "aten::_reshape_alias",
        "aten::transpose",
        "aten::permute",
        "aten::t",
        "aten::squeeze",
        "aten::unsqueeze",
        "aten::expand",
        "aten::slice",
        "aten::select",
        "aten::clone",
        "aten::alias",
        "aten::detach",
        "aten::contiguous",
        "aten::_to_copy",
        "aten::lift_fresh",
    }
)
"""Operators whose results hold the same numbers as what they are given."""


@dataclass(frozen=True)
class Reduction:
    """An operator's reduction: the argument and its dimensions, and how removed entries are to be ignored.

    `how` is what to put in their place (`zero`, `one`, `lowest`, `highest`) or the name of a statistic that has to be
    computed over the kept entries alone.
    """

    arg: int
    dims: tuple[int, ...]
    how: str


@dataclass(frozen=True)
class MacsTerm:
    """Multiply-accumulates of one operator: the product of these sizes."""

    sizes: tuple[Node, ...]
    op: int
    """Number of the operator."""


class Tracker:
    """Dimensions of the tensors of one or more programs over the same parameters."""

    def __init__(self) -> None:
        self.named: dict[str, tuple[Node, ...]] = {}
        self.program = Program()
        self.notes: list[str] = []
        self._dims: list[tuple[Node, ...]] = []
        self.reductions: dict[int, list[Reduction]] = {}
        self.in_place: list[tuple[tuple[Node, ...], tuple[Node, ...]]] = []
        """(dimensions of a tensor, those of them that an operator reduces over and keeps)."""
        self.alignments: list[tuple[Node, int]] = []
        """(dimension, number that its size must stay a multiple of)."""
        self.floors: list[tuple[Node, int]] = []
        """(dimension, number of entries that an operator picks from it: so many must stay)."""
        self.macs_terms: list[MacsTerm] = []
        self.activations: list[tuple[int, tuple[Node, ...], int]] = []
        """(bytes per element, dimensions, number of the operator) of each newly allocated intermediate."""
        self.seen: dict[tuple[int, ...], tuple[Node, ...]] = {}
        """Every combination of dimensions that a tensor had, in any program."""
        self.used: set[str] = set()
        """Names of the tensors that some operator read."""
        self._pieces: dict[int, tuple[Node, ...]] = {}
        self._op_number: dict[int, int] = {}
        self._positions: dict[int, Node] = {}
        self._understood: set[int] = set()
        self._running = 0
        """Number of the operator whose rule runs."""

    def run(self, program: Program) -> None:
        """Find the dimensions of every tensor in the program."""
        from secateur.structure.rules import find_rule

        self.program = program
        self._dims = [()] * len(program.shapes)
        self._op_number = {id(op): number for number, op in enumerate(program.ops)}
        self.reductions, self.macs_terms, self.activations = {}, [], []
        self._pieces, self._positions = {}, {}
        self._start(program)
        for self._running, op in enumerate(program.ops):
            self._understood = set()
            rule = find_rule(op.target)
            if rule is None:
                self._unknown(op)
            else:
                try:
                    self._store(op, rule(self, op))
                except (Misfit, LookupError, ValueError, TypeError, ZeroDivisionError) as error:
                    self._not_followed(op, error)
            self._follow_positions(op)
        for dims in self._dims:
            self.seen[tuple(id(node) for node in dims)] = dims
        read = {number for op in program.ops for number in op.reads}
        self.used |= {name for number, name in program.named.items() if number in read or number in program.outputs}
        for number in program.outputs:
            for node in self._dims[number]:
                algebra.pin(node, Pin("output", "it is a dimension of the model's output"))
            if number in self._positions:
                algebra.pin(self._positions[number], Pin("output", "positions along it are an output of the model"))

    def _follow_positions(self, op: Op) -> None:
        """What holds positions along an axis keeps it whole, unless the operator's rule says that it understands."""
        for number in op.reads:
            node = self._positions.get(number)
            if node is None or number in self._understood:
                continue
            if op.target._schema.name in _CARRYING:
                self._positions[op.outputs[0]] = node
            else:
                self.pin(node, "by-value", "positions along it are numbers that the code uses", op)

    def _start(self, program: Program) -> None:
        for number, name in program.named.items():
            if name not in self.named:
                self.named[name] = tuple(algebra.atom(size) for size in program.shapes[number])
            self._dims[number] = self.named[name]
        given = Pin("input", "it is a dimension of the example inputs")
        for number in program.inputs:
            self._dims[number] = tuple(algebra.atom(size, given) for size in program.shapes[number])
        held = Pin("constant", "it is a dimension of a constant tensor that the code holds")
        for number in program.constants:
            self._dims[number] = tuple(algebra.atom(size, held) for size in program.shapes[number])

    def _store(self, op: Op, made: Any) -> None:
        several = isinstance(made, list) and made and not isinstance(made[0], Node)
        outputs: Sequence[Sequence[Node]] = made if several else [made]
        for number, dims in zip(op.outputs, outputs, strict=False):
            if number >= 0:
                self._set(op, number, tuple(dims))
        for number in op.outputs[len(outputs) :]:
            if number >= 0:
                self._set(op, number, self._all_fixed(op, number))
        self._note_allocation(op)

    def _set(self, op: Op, number: int, dims: tuple[Node, ...]) -> None:
        shape = self.program.shapes[number]
        if tuple(node.size for node in dims) != shape:
            self._not_followed(op, ValueError(f"rule gave {[node.size for node in dims]} for a shape of {shape}"))
            return
        if self._dims[number] and self._dims[number] is not dims:
            for old, new in zip(self._dims[number], dims, strict=True):
                if old.size > 1:
                    self.unify(old, new, op)
            return
        self._dims[number] = dims

    def _note_allocation(self, op: Op) -> None:
        for number, returned in zip(op.outputs, op.target._schema.returns, strict=False):
            if number >= 0 and returned.alias_info is None:
                self.activations.append((self.program.dtypes[number].itemsize, self._dims[number], self._running))

    def _unknown(self, op: Op) -> None:
        name = op.target._schema.name
        self._give_up(op, Pin("operator", f"operator {name} has no rule", self.where(op), f"add a rule for {name}"))

    def _not_followed(self, op: Op, error: Exception) -> None:
        detail = f"operator {op.target._schema.name} could not be followed: {error}"
        self._give_up(op, Pin("operator", detail, self.where(op)))

    def _give_up(self, op: Op, reason: Pin) -> None:
        for number in op.reads:
            for node in self._dims[number]:
                algebra.pin(node, reason)
        for number in op.outputs:
            if number >= 0:
                dims = self._dims[number] or tuple(algebra.atom(size, reason) for size in self.program.shapes[number])
                self._dims[number] = dims

    def _all_fixed(self, op: Op, number: int) -> tuple[Node, ...]:
        shape = self.program.shapes[number]
        return tuple(self.fixed(size, "operator", "a secondary output of an operator", op) for size in shape)

    # What rules use.

    def dims(self, tensor: int) -> tuple[Node, ...]:
        """Dimensions of the tensor of that number."""
        return self._dims[tensor]

    def of(self, op: Op, index: int) -> tuple[Node, ...]:
        """Dimensions of the tensor that is argument `index`."""
        ref = op.args[index]
        if not isinstance(ref, Ref):
            raise TypeError(f"argument {index} of {op.target._schema.name} is no tensor")
        return self._dims[ref.id]

    def arg(self, op: Op, index: int, default: Any) -> Any:
        """Positional argument `index`, or its keyword, or the default."""
        if len(op.args) > index:
            return op.args[index]
        parameters = op.target._schema.arguments
        name = parameters[index].name if len(parameters) > index else ""
        return op.kwargs.get(name, default)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of the tensor of that number."""
        return self.program.shapes[tensor]

    def dtype(self, tensor: int) -> str:
        """dtype of the tensor of that number, `float32` for `torch.float32`."""
        return str(self.program.dtypes[tensor]).removeprefix("torch.")

    def where(self, op: Op) -> str:
        """Module path, and line of the model's code where known."""
        line = f" at {op.call.where}" if op.call is not None and op.call.where else ""
        return f"{op.module or '(model)'}{line}"

    def pin(self, node: Node, code: str, detail: str, op: Op) -> None:
        """Keep the dimension whole."""
        if not algebra.is_pinned(node):
            algebra.pin(node, Pin(code, detail, self.where(op)))

    def fixed(self, size: int, code: str, detail: str, op: Op) -> Node:
        """A new dimension that stays whole."""
        return algebra.atom(size, Pin(code, detail, op.module))

    def unify(self, a: Node, b: Node, op: Op) -> None:
        """Make two dimensions the same; pin both where they cannot be lined up."""
        try:
            algebra.unify(a, b)
        except Misfit as misfit:
            reason = Pin("shape", f"dimensions cannot be lined up: {misfit}", self.where(op))
            algebra.pin(a, reason)
            algebra.pin(b, reason)

    def split(self, node: Node, sizes: Sequence[int], op: Op) -> list[Node]:
        """Factors of the dimension, outermost first; pinned ones where it cannot be split so."""
        return self._broken(algebra.split, node, sizes, op)

    def cut(self, node: Node, sizes: Sequence[int], op: Op) -> list[Node]:
        """Consecutive parts of the dimension; pinned ones where it cannot be cut so."""
        return self._broken(algebra.cut, node, sizes, op)

    def _broken(self, how: Any, node: Node, sizes: Sequence[int], op: Op) -> list[Node]:
        try:
            return how(node, [int(size) for size in sizes])
        except Misfit as misfit:
            reason = Pin("shape", f"a dimension cannot be broken up: {misfit}", self.where(op))
            algebra.pin(node, reason)
            return [algebra.atom(size, reason) for size in sizes]

    def reduce(self, op: Op, arg: int, dims: Iterable[int], how: str, *, in_place: bool = False) -> None:
        """Declare that the operator reduces argument `arg` over these dimensions."""
        chosen = tuple(dims)
        self.reductions.setdefault(self._op_number[id(op)], []).append(Reduction(arg, chosen, how))
        if in_place:
            nodes = self.of(op, arg)
            self.in_place.append((nodes, tuple(nodes[dim] for dim in chosen)))

    def place(self, tensor: int, node: Node) -> None:
        """Declare that the entries of the tensor are positions along the dimension."""
        self._positions[tensor] = node

    def positions(self, tensor: int) -> Node | None:
        """The dimension along which the tensor's entries are positions, for a rule that makes the right use of them."""
        self._understood.add(tensor)
        return self._positions.get(tensor)

    def at_least(self, node: Node, count: int) -> None:
        """Declare that so many entries of the dimension must stay."""
        self.floors.append((node, count))

    def align(self, node: Node, multiple: int) -> None:
        """Declare that the size of the dimension must stay a multiple of this number."""
        self.alignments.append((node, multiple))

    def macs(self, sizes: Sequence[Node]) -> None:
        """Declare the operator's multiply-accumulates."""
        self.macs_terms.append(MacsTerm(tuple(sizes), self._running))

    def pieces_of(self, op: Op, nodes: Sequence[Node]) -> None:
        """Remember the parts that the operator took off or put on, for the sizes in the user's call."""
        self._pieces[id(op)] = tuple(nodes)

    def pieces(self, op: Op) -> tuple[Node, ...]:
        """What `pieces_of` remembered."""
        return self._pieces.get(id(op), ())

    def free_atoms(self) -> list[Node]:
        """Atoms of parameters that are not pinned."""
        found: dict[int, Node] = {}
        for dims in self.named.values():
            for node in dims:
                for part in algebra.atoms(node):
                    if part.pin is None:
                        found[id(part)] = part
        return list(found.values())
