"""From the numbers in the user's code to attributes that follow axes, axes tied to each other, and axes pinned by a
literal.

Every size that the code hands to a torch function must equal the size of a dimension, before and after pruning. A
bare attribute is bound to that dimension; a number written in the code pins it; anything else is an equation between
polynomials in axis sizes, which either holds, ties two axes to a fixed ratio, or pins what it mentions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import gcd
from typing import Any

from secateur.spec import Pin
from secateur.structure.algebra import Node, atom, find, is_pinned, merge
from secateur.structure.attributes import Key
from secateur.structure.polynomial import Polynomial, constant, size_polynomial
from secateur.structure.program import Program
from secateur.structure.sizeint import Origin, SizeInt, origin_of
from secateur.structure.sizes import WATCHED, SameSize
from secateur.structure.tracker import Tracker


@dataclass
class Equation:
    """The number at `origin` must equal the size of `node`."""

    origin: Origin | Node
    node: Node
    where: str


@dataclass
class Resolution:
    """What the numbers in the code say; polynomials are over the tracker's atoms."""

    attributes: dict[Key, Polynomial] = field(default_factory=dict)
    ties: list[tuple[Node, Node, str]] = field(default_factory=list)


def grounded(origin: Origin, dims: Callable[[int], tuple[Node, ...]]) -> Origin:
    """The origin with nodes in place of tensor numbers, which belong to one program only."""
    if origin[0] == "dim":
        return ("node", dims(origin[1])[origin[2]])
    if origin[0] in ("+", "-", "*", "//"):
        return (origin[0], grounded(origin[1], dims), grounded(origin[2], dims))
    return origin


class Opaque(Exception):
    """An expression that is no polynomial in axis sizes."""


class Resolver:
    """Collects equations from programs and resolves them until nothing changes."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.equations: list[Equation] = []
        self.comparisons: list[tuple[Origin, Origin, str]] = []
        self.differences: list[tuple[Origin, Origin]] = []
        self.uses: list[tuple[Origin, str]] = []
        self.bound: dict[Key, list[Node]] = {}
        self.ties: list[tuple[Node, Node, str]] = []
        self._equals: dict[int, Node] = {}

    def bind(self, module: str, name: str, node: Node, index: int | None = None) -> None:
        """Declare that the attribute holds the size of the dimension."""
        self.bound.setdefault((module, name, index), []).append(node)

    def collect(self, program: Program) -> None:
        """Read the sizes out of the calls of a program that the tracker has just run."""
        for call in program.calls:
            extract = WATCHED.get(call.function)
            if extract is None:
                continue
            for number, node in extract(call, self.tracker):
                if not is_pinned(node) or isinstance(number, SizeInt):
                    self.require(number, node, call.where)
        dims = self.tracker.dims
        self.comparisons += [(grounded(a, dims), grounded(b, dims), place) for a, b, place in program.equalities]
        self.differences += program.differences
        self.uses += [(grounded(origin, dims), place) for origin, place in program.number_uses]

    def require(self, number: Any, node: Node, where: str) -> None:
        """Declare that the number in the code must equal the size of the dimension."""
        if isinstance(number, SameSize):
            self.equations.append(Equation(number.node, node, where))
        elif isinstance(number, int) and number > 1:
            self.equations.append(Equation(grounded(origin_of(number), self.tracker.dims), node, where))

    def resolve(self, attribute_value: Callable[[Key], int]) -> Resolution:
        """Bind, tie and pin until every equation holds for any sizes that the ties allow."""
        self.attribute_value = attribute_value
        self._bind_bare_attributes()
        while True:
            before = self._state()
            self.ties, self._equals = [], {}
            for key, nodes in self.bound.items():
                for node in nodes[1:]:
                    self._must_equal(size_polynomial(nodes[0]), size_polynomial(node), f"{key[0]}.{key[1]}")
            for origin, place in self.uses:
                self._number_use(origin, place)
            for equation in self.equations:
                self._hold(equation)
            for left, right, place in self.comparisons:
                self._follow(left, right)
                self._compare(left, right, place)
            self._pin_broken_ties()
            if self._state() == before:
                break
        self._bind_compared()
        attributes = {key: size_polynomial(nodes[0]) for key, nodes in self.bound.items()}
        return Resolution(attributes, [(a, b, why) for a, b, why in self.ties if a.pin is None and b.pin is None])

    def _state(self) -> tuple[int, int]:
        return len(self.tracker.free_atoms()), len(self.bound)

    def _bind_bare_attributes(self) -> None:
        for equation in self.equations:
            if isinstance(equation.origin, tuple) and equation.origin[0] == "attribute":
                self.bind(equation.origin[1], equation.origin[2], equation.node, equation.origin[3])
        for left, right, _ in self.comparisons:
            for attribute, other in ((left, right), (right, left)):
                if attribute[0] == "attribute" and other[0] == "node":
                    self.bind(attribute[1], attribute[2], other[1], attribute[3])

    def value_of(self, origin: Origin | Node) -> Polynomial:
        """The number as a polynomial; raises Opaque."""
        if isinstance(origin, Node):
            return size_polynomial(origin)
        kind = origin[0]
        if kind == "node":
            return size_polynomial(origin[1])
        if kind == "constant":
            return constant(origin[1])
        if kind == "attribute":
            nodes = self.bound.get(origin[1:])
            return size_polynomial(nodes[0]) if nodes else constant(self.attribute_value(origin[1:]))
        left, right = self.value_of(origin[1]), self.value_of(origin[2])
        if kind == "+":
            return left + right
        if kind == "-":
            return left + right * constant(-1)
        if kind == "*":
            return left * right
        return self._quotient(left, right)

    def _quotient(self, left: Polynomial, right: Polynomial) -> Polynomial:
        if left.is_constant and right.is_constant:
            return constant(left.constant // right.constant)
        exact = left.over(right)
        if exact is not None:
            return exact
        if right.is_constant and len(left.terms) == right.constant and len(set(left.terms.values())) == 1:
            # An even division of a concatenation: its parts must stay equal.
            first, *others = left.nodes
            if all(len(monomial) == 1 for monomial in left.terms):
                for other in others:
                    self._tie(first, other, "the code divides them evenly")
                return size_polynomial(first)
        raise Opaque

    def _hold(self, equation: Equation) -> None:
        target = size_polynomial(equation.node)
        try:
            value = self.value_of(equation.origin)
        except Opaque:
            if self._ratio(equation, target):
                return
            self._pin_all(
                target, "size-in-code", "the code computes its size in a way that cannot be followed", equation
            )
            return
        if value.is_constant and not target.is_constant:
            if not self._solve(equation.origin, target):
                self._pin_all(target, "size-in-code", f"its size {value.constant} is fixed in the code", equation)
            return
        self._must_equal(value, target, equation.where)

    def _solve(self, origin: Origin | Node, target: Polynomial) -> bool:
        """Bind the one unbound attribute of a product or quotient so that the equation holds."""
        if isinstance(origin, tuple) and origin[0] == "//":
            return self._solve_quotient(origin[1], origin[2], target)
        if not isinstance(origin, tuple) or origin[0] != "*":
            return False
        for mine, rest in ((origin[1], origin[2]), (origin[2], origin[1])):
            if mine[0] == "attribute" and mine[1:] not in self.bound:
                quotient = target.over(self.value_of(rest))
                node = quotient.nodes[0] if quotient is not None and len(quotient.nodes) == 1 else None
                if node is not None and quotient is not None and quotient.terms == {(node.number,): 1}:
                    self.bind(mine[1], mine[2], node, mine[3])
                    return True
        return False

    def _solve_quotient(self, above: Origin, below: Origin, target: Polynomial) -> bool:
        """`attribute // 2 == width`: the attribute is twice the width."""
        divisor = self.value_of(below)
        if above[0] != "attribute" or above[1:] in self.bound or not divisor.is_constant or len(target.nodes) != 1:
            return False
        node = target.nodes[0]
        if target.terms != {(node.number,): 1} or self.attribute_value(above[1:]) != divisor.constant * node.size:
            return False
        self.bind(
            above[1], above[2], merge([atom(divisor.constant, Pin("constant", "a number in the code")), node]), above[3]
        )
        return True

    def _ratio(self, equation: Equation, target: Polynomial) -> bool:
        """`C // heads == width` where C is no multiple of the symbol `heads`: an equation C == heads * width."""
        origin = equation.origin
        if not isinstance(origin, tuple) or origin[0] != "//":
            return False
        try:
            above, below = self.value_of(origin[1]), self.value_of(origin[2])
        except Opaque:
            return False
        self._must_equal(above, below * target, equation.where)
        return True

    def _follow(self, left: Origin, right: Origin) -> None:
        """Of two attributes that the code finds equal, the one that nothing else binds goes with the other."""
        for mine, other in ((left, right), (right, left)):
            if mine[0] == other[0] == "attribute" and mine[1:] not in self.bound and other[1:] in self.bound:
                self.bind(mine[1], mine[2], self.bound[other[1:]][0], mine[3])

    def _bind_compared(self) -> None:
        """An attribute that is only ever compared with a size follows the dimension of its value in its module, where
        there is just one: code that branches on `dim_in != dim_out` must go the same way afterwards."""
        for pair in self.differences:
            for mine, other in (pair, pair[::-1]):
                if mine[0] != "attribute" or mine[1:] in self.bound or other[1:] not in self.bound:
                    continue
                size = self.attribute_value(mine[1:])
                below = f"{mine[1]}." if mine[1] else ""
                dims = [dims for name, dims in self.tracker.named.items() if name.startswith(below)]
                nodes = {id(find(node)): node for shape in dims for node in shape if node.size == size}
                if len(nodes) == 1:
                    self.bind(mine[1], mine[2], next(iter(nodes.values())), mine[3])

    def _compare(self, left: Origin, right: Origin, place: str) -> None:
        try:
            self._must_equal(self.value_of(left), self.value_of(right), place)
        except Opaque:
            return

    def _number_use(self, origin: Origin, place: str) -> None:
        try:
            value = self.value_of(origin)
        except Opaque:
            return
        reason = Pin("number-from-size", "the code computes a number from its size at run time", place)
        for node in value.nodes:
            node.pin = node.pin or reason

    def _must_equal(self, left: Polynomial, right: Polynomial, place: str) -> None:
        left, right = self._with_equals(left), self._with_equals(right)
        if left == right:
            return
        if len(left.terms) != 1 or len(right.terms) != 1:
            self._sums_must_equal(left, right, place)
            return
        (a, _), (b, _) = next(iter(left.terms.items())), next(iter(right.terms.items()))
        common = [key for key in a if key in b]
        mine = _one([left.atoms[key] for key in a if key not in common], place)
        theirs = _one([right.atoms[key] for key in b if key not in common], place)
        if mine is not None and theirs is not None:
            self._tie(mine, theirs, f"the code at {place} computes one size from the other")
        else:  # all but the common factors is a number
            self._pin_related([node for node in (mine, theirs) if node is not None], place)

    def _tie(self, a: Node, b: Node, why: str) -> None:
        if a is b:
            return
        self.ties.append((a, b, why))
        if a.size == b.size:
            one, other = self._equal(a), self._equal(b)
            if one is not other:
                self._equals[one.number] = other

    def _equal(self, node: Node) -> Node:
        """The representative of the axes that are tied to the same size as this one."""
        while node.number in self._equals:
            node = self._equals[node.number]
        return node

    def _with_equals(self, value: Polynomial) -> Polynomial:
        """The polynomial with one atom in place of all that are tied to the same size."""
        total = constant(0)
        for monomial, coefficient in value.terms.items():
            atoms = [self._equal(value.atoms[key]) for key in monomial]
            key = tuple(sorted(atom.number for atom in atoms))
            total = total + Polynomial({key: coefficient}, {atom.number: atom for atom in atoms})
        return total

    def _sums_must_equal(self, left: Polynomial, right: Polynomial, place: str) -> None:
        """Sums of sizes stay equal when all of them shrink in proportion; sums of anything else are pinned."""
        monomials = [*left.terms, *right.terms]
        if any(len(monomial) > 1 for monomial in monomials) and all(monomials):
            for terms, atoms in ((left.terms, left.atoms), (right.terms, right.atoms)):
                for monomial in terms:
                    _one([atoms[key] for key in monomial], place)  # looked at again once but one are numbers
            return
        nodes = [*left.nodes, *right.nodes]
        if all(monomials) and gcd(*(node.size for node in nodes)) > 1:
            first, *others = nodes
            why = f"the code at {place} computes one size from the other"
            for other in others:
                self._tie(first, other, why)
        else:
            self._pin_related(nodes, place)

    def _pin_related(self, nodes: list[Node], place: str) -> None:
        for node in nodes:
            node.pin = node.pin or Pin("size-in-code", "the code relates its size to other sizes", place)

    def _pin_all(self, target: Polynomial, code: str, detail: str, equation: Equation) -> None:
        cure = "write -1, or read the size from an attribute of the module or from a tensor's shape"
        for node in target.nodes:
            node.pin = node.pin or Pin(code, detail, equation.where, cure)

    def _pin_broken_ties(self) -> None:
        for a, b, why in self.ties:
            a, b = find(a), find(b)
            for one, other in ((a, b), (b, a)):
                if one.pin is not None and other.pin is None:
                    other.pin = Pin("tied", f"{why}; the other one must stay whole: {one.pin.detail}", one.pin.where)


def _one(nodes: list[Node], place: str) -> Node | None:
    """The one axis of a product that stays free; the others (heads and groups first) are pinned."""
    if not nodes:
        return None
    ranked = sorted(nodes, key=lambda node: (bool(node.marks & {"heads", "groups"}), -node.size))
    for node in ranked[1:]:
        node.pin = node.pin or Pin("tied", "the code divides another size by it", place)
    return ranked[0]
