"""The algebra of axes: dimensions as atoms, products and concatenations that can be unified and refined.

A `Node` is one dimension. Nodes that turn out to be the same dimension are unified (union-find); an atom can be
*refined* into a product or a concatenation, and every dimension that mentions it follows. `unify` is the one hard
operation; split, slice and merge are written with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import prod

from secateur.spec import Pin


class Misfit(Exception):
    """Two dimensions cannot be lined up, because their factors or parts do not divide each other."""


_NUMBERS = count()


class Node:
    """A dimension: an atom (`kind == "atom"`), a product (outermost part first) or a concatenation of other nodes."""

    __slots__ = ("kind", "link", "marks", "number", "parts", "pin", "size")

    def __init__(self, size: int, kind: str = "atom", parts: tuple[Node, ...] = ()) -> None:
        self.size = size
        self.kind = kind
        self.parts = parts
        self.link: Node | None = None
        self.pin: Pin | None = None
        self.marks: set[str] = set()
        self.number = next(_NUMBERS)
        """Rises with each node made, so that orders do not depend on addresses in memory."""


ONE = Node(1, "product")
"""The dimension of size one: it carries no axis, and broadcasting equates nothing with it."""


def find(node: Node) -> Node:
    """The representative of the node."""
    while node.link is not None:
        if node.link.link is not None:
            node.link = node.link.link
        node = node.link
    return node


def atom(size: int, pin: Pin | None = None) -> Node:
    """A new axis; size one is `ONE` unless it is pinned as a part of its own."""
    if size == 1:
        return ONE
    node = Node(size)
    node.pin = pin
    return node


def factors(node: Node) -> Iterator[Node]:
    """Factors of the dimension, outermost first; none for size one, the node itself when it is not a product."""
    node = find(node)
    if node.kind == "product":
        for part in node.parts:
            yield from factors(part)
    else:
        yield node


def parts(node: Node) -> Iterator[Node]:
    """Parts of the concatenation, or the node itself when it is none."""
    node = find(node)
    if node.kind == "concat":
        for part in node.parts:
            yield from parts(part)
    else:
        yield node


def atoms(node: Node) -> Iterator[Node]:
    """All atoms in the dimension."""
    node = find(node)
    if node.kind == "atom":
        yield node
    for part in node.parts:
        yield from atoms(part)


def is_pinned(node: Node) -> bool:
    """Whether nothing in the dimension can be removed."""
    return all(part.pin is not None for part in atoms(node))


def pin(node: Node, reason: Pin) -> None:
    """Keep every atom of the dimension whole; the first reason stands."""
    for part in atoms(node):
        if part.pin is None:
            part.pin = reason


def merge(nodes: Sequence[Node]) -> Node:
    """The dimension made of these, outermost first (what flattening produces)."""
    flat = [part for node in nodes for part in factors(node)]
    if len(flat) == 1:
        return flat[0]
    return Node(prod(part.size for part in flat), "product", tuple(flat)) if flat else ONE


def concat(nodes: Sequence[Node]) -> Node:
    """The dimension made of these, one after the other; a part of size one becomes a pinned axis of its own, an empty
    one leaves nothing."""
    flat: list[Node] = []
    for node in (node for node in nodes if node.size > 0):
        flat.extend(_single() if find(part) is ONE else part for part in parts(node))
    if len(flat) <= 1:
        return flat[0] if flat else Node(0)
    return Node(sum(part.size for part in flat), "concat", tuple(flat))


def _single() -> Node:
    node = Node(1)
    node.pin = Pin("single", "a single entry placed beside others")
    return node


def split(node: Node, sizes: Sequence[int]) -> list[Node]:
    """Break a dimension into factors of these sizes, outermost first; raises Misfit."""
    made = [atom(size) for size in sizes]
    unify(node, merge(made))
    return made


def cut(node: Node, sizes: Sequence[int]) -> list[Node]:
    """Break a dimension into consecutive parts of these sizes; raises Misfit."""
    made = [_part(size) for size in sizes]
    kept = [part for part in made if part is not ONE]
    if len(kept) == 1:
        unify(kept[0], node)
    elif all(part.size == 1 for part in kept) or not _is_free(node):
        # Picking single entries names them by position: no axis is left to follow.
        pin(node, Pin("indexed", "entries are picked by position"))
        for part in kept:
            part.pin = Pin("indexed", "entries are picked by position")
    else:
        unify(node, concat(kept))
    return [ONE if part is not ONE and part.size == 1 else part for part in made]


def _part(size: int) -> Node:
    if size == 0:
        return ONE
    return Node(size) if size > 1 else _single()


def _is_free(node: Node) -> bool:
    return any(part.pin is None for part in atoms(node))


def unify(a: Node, b: Node) -> None:
    """Make two dimensions the same; factor or part boundaries are aligned by refining. Raises Misfit."""
    a, b = find(a), find(b)
    if a is b:
        return
    if a.size != b.size:
        raise Misfit(f"a dimension of {a.size} cannot be one of {b.size}")
    if a.kind == "atom":
        _link(a, b)
    elif b.kind == "atom":
        _link(b, a)
    elif a.kind == b.kind == "product":
        _align_products(list(factors(a)), list(factors(b)))
        _link(a, b)
    elif a.kind == b.kind == "concat":
        _align_concats(list(parts(a)), list(parts(b)))
        _link(a, b)
    elif a.kind == "product":
        _product_is_concat(a, b)
        _link(b, a)
    else:
        _product_is_concat(b, a)
        _link(a, b)


def _link(lower: Node, upper: Node) -> None:
    lower, upper = find(lower), find(upper)
    if lower is upper:
        return  # lining up their parts has made them one already
    lower.link = upper
    if lower.pin is not None:
        pin(upper, lower.pin)
        lower.pin = None
    if lower.marks:
        for part in atoms(upper):
            part.marks |= lower.marks


def _align_products(left: list[Node], right: list[Node]) -> None:
    while left and right:
        a, b = find(left[0]), find(right[0])
        if a.kind == "product" or b.kind == "product":
            left, right = [*factors(a), *left[1:]], [*factors(b), *right[1:]]
        elif a.size == b.size:
            unify(a, b)
            left, right = left[1:], right[1:]
        elif b.size % a.size == 0:
            right = [*_break(b, (a.size, b.size // a.size)), *right[1:]]
        elif a.size % b.size == 0:
            left = [*_break(a, (b.size, a.size // b.size)), *left[1:]]
        else:
            left, right = _align_innermost(left, right)


def _align_innermost(left: list[Node], right: list[Node]) -> tuple[list[Node], list[Node]]:
    """One step from the inner end, for factors like (2, 6) against (4, 3) that only fit from there."""
    a, b = find(left[-1]), find(right[-1])
    if a.size == b.size:
        unify(a, b)
        return left[:-1], right[:-1]
    if b.size % a.size == 0:
        return left, [*right[:-1], *_break(b, (b.size // a.size, a.size))]
    if a.size % b.size == 0:
        return [*left[:-1], *_break(a, (a.size // b.size, b.size))], right
    raise Misfit(f"factors of {a.size} and {b.size} do not divide each other")


def _break(node: Node, sizes: tuple[int, int]) -> list[Node]:
    if node.kind == "atom":
        outer, inner = _child(node, sizes[0]), _child(node, sizes[1])
        node.link = Node(node.size, "product", (outer, inner))
        node.pin = None
        return [outer, inner]
    return split(node, sizes)


def _child(parent: Node, size: int) -> Node:
    node = Node(size)
    node.pin = parent.pin
    node.marks |= parent.marks
    return node


def _align_concats(left: list[Node], right: list[Node]) -> None:
    while left and right:
        a, b = find(left[0]), find(right[0])
        if a.kind == "concat" or b.kind == "concat":
            left, right = [*parts(a), *left[1:]], [*parts(b), *right[1:]]
        elif a.size == b.size:
            unify(a, b)
            left, right = left[1:], right[1:]
        elif a.size < b.size:
            right = [*_cut_in_two(b, a.size), *right[1:]]
        else:
            left = [*_cut_in_two(a, b.size), *left[1:]]


def _cut_in_two(node: Node, first: int) -> list[Node]:
    if node.kind == "atom":
        pieces = [_child(node, first), _child(node, node.size - first)]
        node.link = Node(node.size, "concat", tuple(pieces))
        node.pin = None
        return pieces
    pieces = [Node(first), Node(node.size - first)]
    unify(node, concat(pieces))
    return pieces


def _product_is_concat(product: Node, concatenation: Node) -> None:
    """Each part must be some of the outermost factor times all the inner ones."""
    head, *rest = factors(product)
    inner = merge(rest)
    pieces = list(parts(concatenation))
    if any(piece.size % inner.size for piece in pieces):
        sizes = [piece.size for piece in pieces]
        raise Misfit(f"parts of {sizes} do not fit factors of {head.size} x {inner.size}")
    counts = [piece.size // inner.size for piece in pieces]
    if all(count == 1 for count in counts):
        pin(head, Pin("indexed", f"its {head.size} entries are told apart by position"))
        for piece in pieces:
            unify(piece, inner)
        return
    heads = [Node(count) for count in counts]
    unify(head, concat(heads))
    for piece, outer in zip(pieces, heads, strict=True):
        if outer.size == 1:
            pin(outer, Pin("single", "a single entry placed beside others"))
            unify(piece, inner)
        else:
            unify(piece, merge([outer, inner]))
