"""What may be cut together in a network: the record that tracing produces and every later stage reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
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

Role = Literal["channels", "heads", "head_width", "groups", "group_width"]


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

    def prunable_share(self) -> float:
        """Share of the parameters that touch at least one prunable axis."""
        free = {axis.name for axis in self.prunable}
        counts: Counter[bool] = Counter()
        for tensor in self.tensors.values():
            if tensor.kind == "parameter":
                touched = any(axis in free for expr in tensor.dims for axis in axes_of(expr))
                counts[touched] += prod(tensor.shape)
        return counts[True] / max(1, counts.total())


def channel_terms(axes: Iterable[Axis]) -> tuple[Term, ...]:
    """The cost `channels`: indices of the chosen axes; once for each index of a parent that is not itself chosen."""
    axes = tuple(axes)
    chosen = {axis.name for axis in axes if axis.chosen}
    return tuple(
        Term(1, (axis.name,) if axis.within is None or axis.within in chosen else (axis.within, axis.name))
        for axis in axes
        if axis.chosen
    )


def shape_of(tensor: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The tensor's shape for given axis sizes."""
    return tuple(size_of(expr, sizes) for expr in tensor.dims)
