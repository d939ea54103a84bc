"""From the tracker's nodes to the `Structure` record: names, roles, ties, costs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, prod

from secateur.spec import Attribute, Axis, Block, NormAfter, Pin, Rescale, Structure, TensorSpec, Term, Tie
from secateur.spec.expr import Concat, Expr, Product
from secateur.spec.structure import Role, channel_terms, holder, homes_of
from secateur.structure.algebra import Node, atoms, factors, find, parts
from secateur.structure.clone import NamedTensor
from secateur.structure.depth import Depth, ResidualBlock
from secateur.structure.families import Parents, roles_of
from secateur.structure.polynomial import Polynomial, product, size_polynomial
from secateur.structure.rescale import Scale
from secateur.structure.resolve import Resolution
from secateur.structure.tracker import MacsTerm, Tracker

Allocation = tuple[int, tuple[Node, ...], int]


@dataclass(frozen=True)
class Found:
    """Everything that tracing found out, still in terms of nodes."""

    model: str
    tensors: tuple[NamedTensor, ...]
    tracker: Tracker
    resolution: Resolution
    scales: tuple[Scale, ...]
    macs: tuple[MacsTerm, ...]
    activations: tuple[Allocation, ...]
    """Of the eval program alone."""
    norms: tuple[NormAfter, ...]
    reads: Mapping[str, int]
    depth: Depth


def fingerprint(tensors: Iterable[NamedTensor]) -> str:
    """sha256 of names, shapes and dtypes of the model's state; the same for any weights."""
    digest = hashlib.sha256()
    for found in tensors:
        if found.persistent:
            digest.update(f"{found.name} {tuple(found.tensor.shape)} {found.tensor.dtype}\n".encode())
    return digest.hexdigest()


def freeze(found: Found) -> Structure:
    """The record of what tracing found."""
    named = Names(found.tracker.named)
    roles, reach, parents = roles_of(found.tracker), _Reach(found), Parents(found.tracker)
    axes = [_axis(node, name, roles, parents, reach, named) for node, name in named.items()]
    axes += [Axis(_block_axis(block), 1, "blocks", block.pin, least=0) for block in found.depth.blocks]
    tensors = _tensors(found, named)
    blocks = tuple(Block(_block_axis(block), block.path, block.dim) for block in found.depth.blocks)
    return Structure(
        model=found.model,
        fingerprint=fingerprint(found.tensors),
        axes=tuple(axes),
        tensors=tensors,
        attributes=tuple(_attributes(found, named)),
        ties=tuple(_ties(found, named)),
        rescales=tuple(_rescales(found, named)),
        costs={**_costs(found, named), "channels": channel_terms(axes, homes_of(tensors, blocks))},
        norms=found.norms,
        reads=found.reads,
        blocks=blocks,
        rows=found.depth.rows,
        notes=tuple(found.tracker.notes),
    )


def _block_axis(block: ResidualBlock) -> str:
    return f"{block.path}.block"


class Names:
    """Names for the atoms along the dimensions of the model's own tensors."""

    def __init__(self, named: Mapping[str, tuple[Node, ...]]) -> None:
        self._names: dict[int, str] = {}
        self._nodes: dict[int, Node] = {}
        taken: set[str] = set()
        for tensor, dims in named.items():
            for dim, node in enumerate(dims):
                self._name_all(tensor, dim, len(dims), node, taken)

    def _name_all(self, tensor: str, dim: int, rank: int, node: Node, taken: set[str]) -> None:
        inside = [part for part in atoms(node) if part.size > 1 and not _is_bookkeeping(part)]
        for position, part in enumerate(inside):
            if id(part) in self._names:
                continue
            name = _dimension_name(tensor, dim, rank)
            if len(inside) > 1:
                name = f"{name}:{position}"
            while name in taken:
                name += "'"
            taken.add(name)
            self._names[id(part)] = name
            self._nodes[id(part)] = part

    def items(self) -> Iterator[tuple[Node, str]]:
        for key, name in self._names.items():
            yield self._nodes[key], name

    def expr(self, node: Node) -> Expr:
        """The dimension as an expression; atoms without a name are plain sizes."""
        node = find(node)
        if node.kind == "concat":
            return _folded(Concat, [self.expr(part) for part in parts(node)])
        if node.kind == "product":
            return _folded(Product, [self.expr(part) for part in factors(node)])
        return self._names.get(id(node), node.size)

    def of(self, node: Node) -> str:
        return self._names[id(find(node))]

    def has(self, node: Node) -> bool:
        return id(find(node)) in self._names


def _is_bookkeeping(node: Node) -> bool:
    return node.pin is not None and node.pin.code in ("spatial", "single")


def _dimension_name(tensor: str, dim: int, rank: int) -> str:
    base = tensor.removesuffix(".weight")
    if rank == 1:
        return base
    return f"{base}.{('out', 'in')[dim] if dim < 2 else f'dim{dim}'}"


def _folded(kind: type[Product] | type[Concat], made: list[Expr]) -> Expr:
    """Neighbouring sizes become one size; a lone part stands for itself."""
    out: list[Expr] = []
    for part in made:
        if out and isinstance(part, int) and isinstance(out[-1], int):
            out[-1] = out[-1] * part if kind is Product else out[-1] + part
        else:
            out.append(part)
    if not out:
        return 1
    return out[0] if len(out) == 1 else kind(tuple(out))


def _axis(
    node: Node, name: str, roles: Mapping[int, tuple[Role, bool]], parents: Parents, reach: _Reach, named: Names
) -> Axis:
    role, chosen = roles.get(id(node), ("channels", True))
    if id(node) in reach.state:
        role = "state"
    pin = node.pin
    if pin is None and id(node) not in reach.used:
        pin = Pin("unused", "no forward that was captured reads the tensors it occurs in")
    if pin is None and id(node) not in reach.parameters:
        pin = Pin("no-parameter", "it occurs in buffers alone")
    parent = parents.of(node, role) if pin is None and role in ("group_width", "head_width") else None
    within = named.of(parent) if parent is not None and named.has(parent) else None
    return Axis(name, node.size, role, pin, within, chosen and pin is None, reach.least.get(id(node), 1))


def _floors(tracker: Tracker) -> dict[int, int]:
    """How many indices of an atom must stay, for as many entries of its dimension as are picked."""
    least: dict[int, int] = {}
    for whole, count in tracker.floors:
        inside = list(atoms(whole))
        others = prod(part.size for part in inside if part.pin is not None) if find(whole).kind == "product" else 1
        for part in inside:
            least[id(part)] = max(least.get(id(part), 1), min(part.size, -(-count // others)))
    return least


class _Reach:
    """Ids of the atoms that occur in parameters, in tensors that some captured operator reads, and in sizes that the
    model itself calls those of a state."""

    def __init__(self, found: Found) -> None:
        dims = found.tracker.named
        self.used = _atom_ids(dims[name] for name in found.tracker.used)
        self.least = _floors(found.tracker)
        self.state = {
            id(find(node))
            for (_, name, _), size in found.resolution.attributes.items()
            for node in size.nodes
            if "state" in name.rpartition(".")[2] and len(size.nodes) == 1
        }
        self.parameters = _atom_ids(dims[item.name] for item in found.tensors if item.kind == "parameter")


def _atom_ids(tensors: Iterable[Sequence[Node]]) -> set[int]:
    return {id(part) for dims in tensors for node in dims for part in atoms(node)}


def _tensors(found: Found, named: Names) -> dict[str, TensorSpec]:
    specs: dict[str, TensorSpec] = {}
    for item in found.tensors:
        dims = tuple(named.expr(node) for node in found.tracker.named[item.name])
        dtype = str(item.tensor.dtype).removeprefix("torch.")
        specs[item.name] = TensorSpec(item.kind, tuple(item.tensor.shape), dtype, dims)
    return specs


def _attributes(found: Found, named: Names) -> Iterator[Attribute]:
    for (module, name, index), size in found.resolution.attributes.items():
        if not size.is_constant:
            yield Attribute(module, name, _expr_of(size, named), index)


def _expr_of(size: Polynomial, named: Names) -> Expr:
    terms: list[Expr] = []
    for monomial, coefficient in size.terms.items():
        names = [named.expr(size.atoms[key]) for key in monomial]
        terms.append(_folded(Product, [*([coefficient] if coefficient != 1 or not names else []), *names]))
    return _folded(Concat, terms)


def _ties(found: Found, named: Names) -> Iterator[Tie]:
    multiples = _alignments(found.tracker, named)
    classes: list[tuple[dict[str, int], str]] = [
        ({name: found_size}, "its kernel needs aligned rows") for name, (found_size, _) in multiples.items()
    ]
    for a, b, why in found.resolution.ties:
        joined = {named.of(a): find(a).size, named.of(b): find(b).size}
        others: list[tuple[dict[str, int], str]] = []
        for members, reason in classes:
            if members.keys() & joined.keys():
                joined = {**members, **joined}
            else:
                others.append((members, reason))
        classes = [*others, (joined, why)]
    for members, why in classes:
        common = gcd(*(size // multiples.get(name, (0, 1))[1] for name, size in members.items()))
        yield Tie(tuple((name, size // common) for name, size in members.items()), why)


def _alignments(tracker: Tracker, named: Names) -> dict[str, tuple[int, int]]:
    """Axis -> (size, multiple) for the innermost axis of each dimension that must stay aligned."""
    found: dict[str, tuple[int, int]] = {}
    for node, multiple in tracker.alignments:
        for part in parts(node):
            inner = list(factors(part))[-1]
            if inner.kind == "atom" and inner.pin is None and inner.size % multiple == 0 and named.has(inner):
                found[named.of(inner)] = (inner.size, multiple)
    return found


def _rescales(found: Found, named: Names) -> Iterator[Rescale]:
    """One per line of code and tensor: a line that runs several times (a shared module, a capture of both modes) scales
    what the same weights produce, and these take up its change once."""
    made = {(scale.where, rescale): rescale for scale in found.scales for rescale in _rescales_of(scale, named)}
    yield from made.values()


def _rescales_of(scale: Scale, named: Names) -> Iterator[Rescale]:
    size = scale.origin if isinstance(scale.origin, Node) else None
    if size is None or size_polynomial(size).is_constant:
        return
    expr = _expr_of(size_polynomial(size), named)
    for tensor, rows in scale.rows.items():
        yield Rescale(tensor, expr, -scale.power, rows)


Costing = tuple[int, Sequence[Node], tuple[str, ...]]
"""Cost of an entry, dimensions, and the block that it leaves with, if any."""


def _costs(found: Found, named: Names) -> dict[str, tuple[Term, ...]]:
    dims, home = found.tracker.named, _Home(found.depth.blocks)
    held = [item for item in found.tensors if item.kind != "attribute"]
    params = [item.name for item in held if item.kind == "parameter"]
    return {
        "params": _terms(((1, dims[name], home.of_tensor(name)) for name in params), named),
        "macs": _terms(((1, term.sizes, home.of_op(term.op)) for term in found.macs), named),
        "activation_bytes": _terms(((width, nodes, home.of_op(op)) for width, nodes, op in found.activations), named),
        "size_bytes": _terms(
            ((item.tensor.itemsize, dims[item.name], home.of_tensor(item.name)) for item in held), named
        ),
    }


class _Home:
    """The block that a tensor or an operator leaves with, as no name or one."""

    def __init__(self, blocks: Iterable[ResidualBlock]) -> None:
        free = [block for block in blocks if block.pin is None]
        self.modules = {block.path: _block_axis(block) for block in free}
        self.ops = {number: _block_axis(block) for block in free for number in range(block.call.start, block.call.stop)}

    def of_tensor(self, name: str) -> tuple[str, ...]:
        axis = holder(name, self.modules)
        return () if axis is None else (axis,)

    def of_op(self, number: int) -> tuple[str, ...]:
        return (self.ops[number],) if number in self.ops else ()


def _terms(costing: Iterable[Costing], named: Names) -> tuple[Term, ...]:
    alike: Counter[tuple[tuple[Node, ...], tuple[str, ...]]] = Counter()
    for factor, dims, home in costing:
        alike[tuple(find(node) for node in dims), home] += factor
    total: Counter[tuple[str, ...]] = Counter()
    for (dims, home), factor in alike.items():
        size = product(size_polynomial(node) for node in dims)
        for monomial, coefficient in size.terms.items():
            missing = prod(size.atoms[key].size for key in monomial if not named.has(size.atoms[key]))
            names = tuple(sorted(named.of(size.atoms[key]) for key in monomial if named.has(size.atoms[key])))
            total[home + names] += factor * coefficient * missing
    return tuple(Term(coefficient, names) for names, coefficient in sorted(total.items()) if coefficient)
