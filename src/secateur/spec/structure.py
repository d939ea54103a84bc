"""What may be cut together in a network: the record that tracing produces and every later stage reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Annotated, Literal

from pydantic import PlainSerializer, PlainValidator

from secateur.spec import expr as expressions
from secateur.spec.expr import Expr, axes_of, size_of
from secateur.spec.record import Record

JsonExpr = Annotated[
    Expr,
    PlainValidator(expressions.from_json),
    PlainSerializer(expressions.to_json),
]

Role = Literal["channels", "heads", "head_width", "groups", "group_width", "experts", "state", "blocks"]


@dataclass(frozen=True)
class Pin:
    """Why an axis must stay whole."""

    code: str
    """Reason code, one of the table in docs/glossary.md: `input`, `output`, `operator`, `indexed`, `size-in-code`,
    ..."""
    detail: str
    """What was met, in words."""
    where: str = ""
    """Module path, and file and line of the model's code where known."""
    cure: str = ""
    """What would free the axis; empty when nothing sensible would."""


@dataclass(frozen=True)
class Axis:
    """A named range `0..size-1` that occurs in the network's tensors."""

    name: str
    size: int
    role: Role = "channels"
    pin: Pin | None = None
    within: str | None = None
    """Parent axis, when the kept indices may differ for each index of that parent (equal counts)."""
    chosen: bool = False
    """Whether it is pruned by default; head widths are not while whole heads can go."""
    least: int = 1
    """Indices that stay at least: as many experts as a router picks; none of a block."""


@dataclass(frozen=True)
class TensorSpec:
    """A parameter, buffer or plain tensor attribute, and the axes along its dimensions."""

    kind: Literal["parameter", "buffer", "attribute"]
    shape: tuple[int, ...]
    dtype: str
    dims: tuple[JsonExpr, ...]


@dataclass(frozen=True)
class Attribute:
    """A number in the model's Python that equals a size: `module.name`, or entry `index` of that tuple."""

    module: str
    name: str
    size: JsonExpr
    index: int | None = None


@dataclass(frozen=True)
class Tie:
    """Axes whose sizes are fixed multiples of one common number, because the code computes one from the other."""

    members: tuple[tuple[str, int], ...]
    reason: str = ""


@dataclass(frozen=True)
class Rescale:
    """Rows of a tensor to multiply by `(new size / old size) ** power`, which undoes a scale that the code computes
    from a size at run time (the default scale of attention, say)."""

    tensor: str
    size: JsonExpr
    power: float
    rows: tuple[tuple[int, int], ...] | None = None
    """Half-open ranges along dimension 0 in the original tensor; None for all of it."""


@dataclass(frozen=True)
class NormAfter:
    """A weight whose output goes straight into an affine BatchNorm."""

    weight: str
    """Name of the weight."""
    norm: str
    """Prefix of the BatchNorm's tensors, with the dot at its end."""
    eps: float


@dataclass(frozen=True)
class Block:
    """A residual block, which may leave as a whole: its output, the first tensor that it returns, has the very axes of
    its input, the first tensor that it is given."""

    axis: str
    """Its axis, of size one: 0 where the block leaves."""
    module: str
    """Path of the module, a child of a `Sequential` or `ModuleList`."""
    dim: int
    """Dimension of the input along which features stand; the others are samples and positions."""


@dataclass(frozen=True)
class Row:
    """A list in the model's Python, `module.name`, with an entry for each child of a `Sequential` or `ModuleList`."""

    module: str
    name: str
    """Attribute; `config.layer_types` for one of an object that the module holds."""
    list: str
    """Path of the `Sequential` or `ModuleList`."""


@dataclass(frozen=True)
class Term:
    """`coefficient` times the sizes of `axes` (with repetition)."""

    coefficient: int
    axes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Structure(Record):
    """All that pruning needs to know of a network; derived once by tracing, never by looking at weights."""

    model: str
    """Qualified name of the model's class."""
    fingerprint: str
    """sha256 of the names, shapes and dtypes of its tensors."""
    axes: tuple[Axis, ...]
    tensors: Mapping[str, TensorSpec]
    attributes: tuple[Attribute, ...] = ()
    ties: tuple[Tie, ...] = ()
    rescales: tuple[Rescale, ...] = ()
    costs: Mapping[str, tuple[Term, ...]] = field(default_factory=dict[str, tuple[Term, ...]])
    """Cost unit -> polynomial in the axis sizes, for one forward of the example inputs."""
    norms: tuple[NormAfter, ...] = ()
    reads: Mapping[str, int] = field(default_factory=dict[str, int])
    """Weight -> the dimension over which its product with activations reduces: its columns."""
    blocks: tuple[Block, ...] = ()
    """In the order in which they run."""
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    schema_version: int = 1

    @cached_property
    def axis(self) -> Mapping[str, Axis]:
        """Axes by name."""
        return {axis.name: axis for axis in self.axes}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Axis sizes by name."""
        return {axis.name: axis.size for axis in self.axes}

    @cached_property
    def within(self) -> Mapping[str, str]:
        """Parent of each axis that chooses its indices per parent index."""
        return {axis.name: axis.within for axis in self.axes if axis.within is not None}

    @cached_property
    def tied(self) -> Mapping[str, tuple[tuple[str, int], ...]]:
        """Members of the tie of each axis that is tied."""
        return {name: tie.members for tie in self.ties for name, _ in tie.members}

    @property
    def prunable(self) -> tuple[Axis, ...]:
        """Axes that are not pinned."""
        return tuple(axis for axis in self.axes if axis.pin is None)

    def occurrences(self, axis: str) -> Iterator[tuple[str, int]]:
        """Each (tensor, dimension) in which the axis occurs: the slices that leave together."""
        for name, tensor in self.tensors.items():
            for dim, expr in enumerate(tensor.dims):
                if axis in axes_of(expr):
                    yield name, dim

    @cached_property
    def homes(self) -> Mapping[str, str]:
        """Axis -> the block (by its axis) that all tensors are in in which it occurs."""
        return homes_of(self.tensors, self.blocks)

    def prunable_share(self) -> float:
        """Share of the parameters that touch at least one prunable axis."""
        free = {axis.name for axis in self.prunable}
        counts: Counter[bool] = Counter()
        for tensor in self.tensors.values():
            if tensor.kind == "parameter":
                touched = any(axis in free for expr in tensor.dims for axis in axes_of(expr))
                counts[touched] += prod(tensor.shape)
        return counts[True] / max(1, counts.total())


def holder(name: str, modules: Mapping[str, str]) -> str | None:
    """What stands for the innermost of these modules that a tensor or module is in; None where it is in none."""
    while name:
        name = name.rpartition(".")[0]
        if name in modules:
            return modules[name]
    return None


def homes_of(tensors: Mapping[str, TensorSpec], blocks: Sequence[Block]) -> dict[str, str]:
    """Axis -> the block (by its axis) that all tensors are in in which it occurs."""
    found: dict[str, set[str | None]] = {}
    modules = {block.module: block.axis for block in blocks}
    for name, tensor in tensors.items():
        home = holder(name, modules)
        for expr in tensor.dims:
            for axis in axes_of(expr):
                found.setdefault(axis, set()).add(home)
    return {axis: home for axis, homes in found.items() for home in homes if home is not None and len(homes) == 1}


def channel_terms(axes: Iterable[Axis], homes: Mapping[str, str]) -> tuple[Term, ...]:
    """The cost `channels`: indices of the chosen axes; once for each index of a parent that is not itself chosen, and
    not at all when the block leaves that is the axis's home."""
    axes = tuple(axes)
    chosen = {axis.name for axis in axes if axis.chosen}
    return tuple(
        Term(1, tuple(name for name in (homes.get(axis.name), _parent(axis, chosen), axis.name) if name is not None))
        for axis in axes
        if axis.chosen
    )


def _parent(axis: Axis, chosen: Collection[str]) -> str | None:
    return None if axis.within in chosen else axis.within


def shape_of(tensor: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The tensor's shape for given axis sizes."""
    return tuple(size_of(expr, sizes) for expr in tensor.dims)
