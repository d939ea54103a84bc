"""Sizes as polynomials in the sizes of free atoms: sums of coefficient times product of atoms."""

from __future__ import annotations

from collections.abc import Iterable

from secateur.structure.algebra import Node, find

Monomial = tuple[int, ...]
"""Sorted numbers of atoms, with repetition."""


class Polynomial:
    """`{monomial: coefficient}`; `atoms` maps the numbers to nodes."""

    __slots__ = ("atoms", "terms")

    def __init__(self, terms: dict[Monomial, int], atoms: dict[int, Node]) -> None:
        self.terms = {monomial: coefficient for monomial, coefficient in terms.items() if coefficient}
        self.atoms = atoms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return Polynomial(terms, self.atoms | other.atoms)

    def __mul__(self, other: Polynomial) -> Polynomial:
        if other.is_constant:
            factor = other.constant
            return Polynomial({monomial: value * factor for monomial, value in self.terms.items()}, self.atoms)
        terms: dict[Monomial, int] = {}
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                monomial = tuple(sorted(left + right))
                terms[monomial] = terms.get(monomial, 0) + a * b
        return Polynomial(terms, self.atoms | other.atoms)

    @property
    def is_constant(self) -> bool:
        """Whether no atom is left in it."""
        return all(not monomial for monomial in self.terms)

    @property
    def constant(self) -> int:
        """Its constant term."""
        return self.terms.get((), 0)

    @property
    def nodes(self) -> list[Node]:
        """The atoms that occur."""
        used = {key for monomial in self.terms for key in monomial}
        return [self.atoms[key] for key in sorted(used, key=lambda key: self.atoms[key].size)]

    def over(self, other: Polynomial) -> Polynomial | None:
        """The exact quotient by a single term, or None."""
        if len(other.terms) != 1:
            return None
        (below, divisor), quotient = next(iter(other.terms.items())), {}
        for monomial, coefficient in self.terms.items():
            rest = list(monomial)
            for key in below:
                if key not in rest:
                    return None
                rest.remove(key)
            if coefficient % divisor:
                return None
            quotient[tuple(rest)] = coefficient // divisor
        return Polynomial(quotient, self.atoms)


def constant(value: int) -> Polynomial:
    """A number."""
    return Polynomial({(): value}, {})


def size_polynomial(node: Node) -> Polynomial:
    """Size of the dimension; pinned atoms count as numbers."""
    node = find(node)
    if node.kind == "atom":
        if node.pin is not None:
            return constant(node.size)
        return Polynomial({(node.number,): 1}, {node.number: node})
    if node.kind == "concat":
        total = constant(0)
        for part in node.parts:
            total = total + size_polynomial(part)
        return total
    return product(size_polynomial(part) for part in node.parts)


def product(factors: Iterable[Polynomial]) -> Polynomial:
    """Product of polynomials."""
    total = constant(1)
    for factor in factors:
        total = factor * total if not factor.is_constant else total * factor
    return total
