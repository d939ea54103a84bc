"""Roles of axes that share a dimension: heads and their width, groups and their width.

Where a dimension is a product of axes, cutting both factors by half leaves a quarter; by default one of them is cut:
whole heads, and the width of the groups of a convolution. The width of heads goes too where the other side of their
projections (the residual stream) must stay whole: a projection is then still cut along two axes, as all others are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from secateur.spec.structure import Role
from secateur.structure.algebra import Node, atoms, factors, find, parts
from secateur.structure.tracker import Tracker

_T = TypeVar("_T")


def roles_of(tracker: Tracker) -> dict[int, tuple[Role, bool]]:
    """Role of each atom that shares a dimension of a parameter with another, and whether it is cut by default."""
    roles: dict[int, tuple[Role, bool]] = {}
    for dims in tracker.named.values():
        for node in dims:
            for family in _families(node):
                _judge(family, roles)
    for node in tracker.free_atoms():
        if "experts" in node.marks:
            roles[id(node)] = ("experts", False)
    held = _beside_something_free(tracker)
    return {
        number: (role, chosen or (role == "head_width" and number not in held))
        for number, (role, chosen) in roles.items()
    }


def _beside_something_free(tracker: Tracker) -> set[int]:
    """Ids of the atoms that stand, in some tensor, beside a dimension of which something other than heads can go."""
    found: set[int] = set()
    for dims in tracker.named.values():
        for position, node in enumerate(dims):
            others = (part for other, dim in enumerate(dims) if other != position for part in atoms(dim))
            if any(part.pin is None and "heads" not in part.marks for part in others):
                found |= {id(part) for part in atoms(node)}
    return found


def _families(node: Node) -> Iterator[list[Node]]:
    """Runs of two or more free factors in a product, wherever it stands in the dimension."""
    node = find(node)
    if node.kind == "concat":
        for part in parts(node):
            yield from _families(part)
    elif node.kind == "product":
        flat = [part for part in factors(node) if part.size > 1]
        yield [part for part in flat if part.kind == "atom"]
        for part in flat:
            if part.kind == "concat":
                yield from _families(part)


def _judge(family: list[Node], roles: dict[int, tuple[Role, bool]]) -> None:
    free = [node for node in family if node.pin is None]
    if any("groups" in node.marks for node in family):
        for node in free:
            if "groups" in node.marks and any("group_width" in other.marks for other in free if other is not node):
                roles[id(node)] = ("groups", False)
            elif "group_width" in node.marks:
                roles.setdefault(id(node), ("group_width", True))
    elif any("heads" in node.marks for node in family):
        _judge_heads(family, roles)


def _judge_heads(family: list[Node], roles: dict[int, tuple[Role, bool]]) -> None:
    outer_free = False
    for node in family:
        if node.pin is not None:
            continue
        if "heads" in node.marks:
            known = roles.get(id(node))
            roles[id(node)] = ("heads", not outer_free and (known is None or known[1]))
            outer_free = True
        elif "inside" in node.marks:
            known = roles.get(id(node))
            roles[id(node)] = ("head_width", not outer_free and (known is None or known[1]))


class Parents:
    """Finds the axis for each index of which another may keep other indices: it stands beside it in every tensor."""

    def __init__(self, tracker: Tracker) -> None:
        self._seen = _by_atom((dims, dims) for dims in tracker.seen.values())
        self._in_place = _by_atom(tracker.in_place)
        self._outer: dict[int, list[Node]] = {}
        for dims in tracker.named.values():
            for dim in dims:
                for family in _families(dim):
                    for position, part in enumerate(family):
                        self._outer.setdefault(id(part), family[:position])

    def of(self, node: Node, role: Role) -> Node | None:
        """The parent of an axis that is the width of heads or groups."""
        mark = "groups" if role == "group_width" else "heads"
        for candidate in self._outer.get(id(node), ()):
            if mark in candidate.marks and self._always_beside(node, candidate):
                return candidate
        return None

    def _always_beside(self, node: Node, parent: Node) -> bool:
        if not all(_beside_in(dims, node, parent) for dims in self._seen.get(id(node), ())):
            return False
        for reduced in self._in_place.get(id(node), ()):
            over = [part for dim in reduced for part in atoms(dim)]
            if any(part is parent for part in over) and not any(part is node for part in over):
                return False
        return True


def _by_atom(found: Iterable[tuple[tuple[Node, ...], _T]]) -> dict[int, list[_T]]:
    """What belongs to the dimensions in which each atom occurs, by the atom's id."""
    index: dict[int, list[_T]] = {}
    for dims, value in found:
        for number in {id(part) for dim in dims for part in atoms(dim)}:
            index.setdefault(number, []).append(value)
    return index


def _beside_in(dims: tuple[Node, ...], node: Node, parent: Node) -> bool:
    """Each occurrence of the axis has the parent as an outer factor, or in exactly one other dimension by itself."""
    for position, dim in enumerate(dims):
        if not any(part is node for part in atoms(dim)):
            continue
        if _covered(dim, node, parent, seen=False):
            continue
        others = [other for index, other in enumerate(dims) if index != position]
        holding = [other for other in others if any(part is parent for part in atoms(other))]
        if len(holding) != 1 or find(holding[0]).kind == "concat" or sum(p is parent for p in atoms(holding[0])) != 1:
            return False
    return True


def _covered(dim: Node, node: Node, parent: Node, *, seen: bool) -> bool:
    dim = find(dim)
    if dim is node:
        return seen
    if dim.kind == "concat":
        return all(_covered(p, node, parent, seen=seen) for p in parts(dim) if any(a is node for a in atoms(p)))
    if dim.kind == "product":
        for part in factors(dim):
            if part is parent:
                seen = True
            elif any(a is node for a in atoms(part)) and not _covered(part, node, parent, seen=seen):
                return False
        return True
    return True
