"""Cells of networks drawn at random, as spaces of architecture search have them: numbers and names, no tensors.

A network is a chain of cells, and a cell an acyclic graph (NAS-Bench-101, Ying et al. 2019; DARTS, Liu et al. 2019,
section 2.1). Its nodes 0 and 1 are the outputs of the two cells before it; each later node joins what operators make of
earlier ones; the nodes that none reads, joined, are its output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Norm = Literal["batch", "group", "none"]
Activation = Literal["relu", "silu", "gelu"]
Join = Literal["sum", "concatenation"]

CONVOLUTIONS = (
    *("conv 1x1", "conv 3x3", "conv 5x5", "separable 3x3", "separable 5x5"),
    *("dilated 3x3", "grouped 3x3", "grouped 1x1"),
)
"""Operators that may change the width."""
KEEPERS = ("max pool", "average pool", "skip", "squeeze-excite")
"""Operators that keep it."""
STEP = 4
"""Widths are multiples of it, so that they can be cut into as many groups."""
INPUTS = 2
"""Nodes that a cell is given."""


@dataclass(frozen=True)
class Edge:
    """An operator between two nodes."""

    source: int
    operator: str
    width: int
    """Channels that come out."""


@dataclass(frozen=True)
class Node:
    """What edges lead to."""

    edges: tuple[Edge, ...]
    join: Join

    @property
    def width(self) -> int:
        """Channels."""
        widths = [edge.width for edge in self.edges]
        return widths[0] if self.join == "sum" else sum(widths)


@dataclass(frozen=True)
class Cell:
    """One cell; a reduction cell halves height and width."""

    width: int
    """Channels of the nodes that it is given, and of sums."""
    reduces: bool
    nodes: tuple[Node, ...]
    """Those after the ones that it is given."""
    join: Join
    """Of the output."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of all nodes."""
        return (*[self.width] * INPUTS, *(node.width for node in self.nodes))

    @property
    def read(self) -> frozenset[int]:
        """Nodes that others read."""
        return frozenset(edge.source for node in self.nodes for edge in node.edges)

    @property
    def ends(self) -> tuple[int, ...]:
        """Nodes that make the output."""
        return tuple(node for node in range(INPUTS, len(self.widths)) if node not in self.read)

    @property
    def out_width(self) -> int:
        """Channels of the output."""
        widths = [self.widths[end] for end in self.ends]
        return widths[0] if self.join == "sum" else sum(widths)


@dataclass(frozen=True)
class Genotype:
    """All that tells one network from another."""

    width: int
    """Channels of the first convolution."""
    norm: Norm
    activation: Activation
    activates_first: bool
    """Whether the activation stands before each convolution, else after its norm."""
    cells: tuple[Cell, ...]


def genotypes(seed: int) -> Iterator[Genotype]:
    """Endlessly many, the same for a seed on any machine."""
    rng = Random(seed)
    while True:
        yield _drawn(rng)


def _drawn(rng: Random) -> Genotype:
    width, count = rng.choice((8, 12, 16, 24)), rng.randint(3, 6)
    reductions = rng.sample(range(count), rng.randint(1, 2))
    cells: list[Cell] = []
    for number in range(count):
        cell_width = width * 2 ** sum(place <= number for place in reductions)
        cells.append(_cell(rng, cell_width, reduces=number in reductions))
    norm = rng.choice(("batch", "batch", "group", "none"))
    return Genotype(width, norm, rng.choice(("relu", "silu", "gelu")), rng.random() < 0.5, tuple(cells))


def _cell(rng: Random, width: int, *, reduces: bool) -> Cell:
    nodes: list[Node] = []
    for number in range(rng.randint(2, 4)):
        widths = [*[width] * INPUTS, *(node.width for node in nodes)]
        sources = rng.sample(range(len(widths)), rng.randint(1, min(3, len(widths))))
        if number == 0 and 1 not in sources:
            sources[0] = 1  # else no later cell might read the one before
        nodes.append(_node(rng, width, widths, sources))
    summed = rng.random() < 0.5
    cell = Cell(width, reduces, tuple(nodes), "concatenation")
    ends = {cell.widths[end] for end in cell.ends}
    return Cell(width, reduces, cell.nodes, "sum") if summed and len(ends) == 1 else cell


def _node(rng: Random, width: int, widths: Sequence[int], sources: Sequence[int]) -> Node:
    operators = [rng.choice(CONVOLUTIONS if rng.random() < 0.6 else KEEPERS) for _ in sources]
    part = max(STEP, width // len(sources) // STEP * STEP)
    joined = [
        Edge(source, operator, widths[source] if operator in KEEPERS else part)
        for source, operator in zip(sources, operators, strict=True)
    ]
    if rng.random() < 0.5 and sum(edge.width for edge in joined) <= 2 * width:
        return Node(tuple(joined), "concatenation")
    return Node(tuple(Edge(edge.source, edge.operator, width) for edge in joined), "sum")
