"""A captured network as what devices do one after the other: who runs each operator, and on what of its inputs.

A device makes those entries of a tensor whose channels it owns. Operators that keep channels apart run on these alone.
One that mixes channels needs entries that others own: of a product with a weight those that some weight of the device's
rows reads, of any other all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils._pytree import tree_map

from secateur.partition.fixed import demand_fixed
from secateur.partition.owners import Owners, without_conflicts
from secateur.partition.repeats import without_repeats
from secateur.spec import PlanError
from secateur.spec.expr import Expr, axes_of
from secateur.structure import Traced
from secateur.structure.freeze import Names
from secateur.structure.program import Op, Program, Ref, last_reads, out_of_place

aten = torch.ops.aten
WITH_SIZES = (aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.reshape.default)
"""What names the sizes of its output."""
_IN_ORDER = (*WITH_SIZES, aten.cat.default)
"""What keeps the order of entries, though dimensions change."""
_ROLES = ("channels", "heads", "groups")
_ABOUT_SIZES = ("tied", "size-in-code")
"""Why axes must stay whole that can be spread all the same: nothing is wrong with their indices."""

Part = Literal["own", "columns", "all"]
"""What of a tensor an operator reads on a device: the device's own channels, those that its rows of the weight read, or
every channel."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is."""

    dim: int | None
    """The dimension along which it is spread; None where it is whole, at one device."""
    owners: np.ndarray
    """Of each position along that dimension; of a whole tensor the one device."""

    @property
    def devices(self) -> tuple[int, ...]:
        return tuple(int(device) for device in np.unique(self.owners))

    def own(self, device: int) -> np.ndarray:
        """Positions of the device, ascending."""
        return np.flatnonzero(self.owners == device)


@dataclass(frozen=True)
class Product:
    """A product of activations with a weight, both by the numbers of their tensors."""

    activation: int
    weight: int
    columns: int
    """The dimension of the weight over which it is reduced."""


@dataclass(frozen=True)
class Step:
    """One operator."""

    number: int
    """Of the operator in the program."""
    runners: tuple[int, ...]
    reads: Mapping[int, Part]
    """What of each tensor that depends on the inputs."""
    product: Product | None
    """Where it multiplies with a weight what it reads across channels."""
    compact: bool
    """Whether it runs on the parts of tensors; else on whole ones, whose rest is zero."""


@dataclass(frozen=True)
class Arrangement:
    """Who does what."""

    program: Program
    owners: Owners
    steps: tuple[Step, ...]
    places: Mapping[int, Place]
    """Of each tensor that depends on the inputs."""
    dims: Mapping[int, tuple[Expr, ...]]
    """Of each tensor."""
    last: Mapping[int, int]
    """Number of the last operator that reads a tensor."""

    @property
    def samples(self) -> int:
        """How many the network was captured with."""
        return self.program.shapes[self.program.inputs[0]][0]

    def positions(self, expr: Expr, device: int) -> np.ndarray | None:
        """Those of a dimension that the device owns; None where it is not spread."""
        along = self.owners.along(expr)
        return None if along is None else np.flatnonzero(along == device)


def spreadable_axes(traced: Traced) -> list[str]:
    """Axes whose indices can live on different devices, in the order of the network: free channels, heads and groups;
    of two that cross in an activation the first."""
    dims = _dims(traced)
    free = [
        axis.name
        for axis in traced.structure.axes
        if (axis.pin is None or axis.pin.code in _ABOUT_SIZES) and axis.role in _ROLES
    ]
    return without_conflicts(free, [dims[number] for number in _activations(traced.program)])


def folded_tensors(program: Program) -> frozenset[int]:
    """Numbers of the tensors that depend on weights and constants alone, and that nothing else is written into."""
    written: set[int] = set()
    while True:
        found = {*program.named, *program.constants} - written
        for op in program.ops:
            if found.issuperset(op.reads):
                found.update(set(op.outputs) - written)
        more = {number for op in program.ops if not found.issuperset(op.reads) for number in op.outputs}
        if more <= written:
            return frozenset(found)
        written |= more


def arrange(traced: Traced, owners: Owners) -> Arrangement:
    """Who runs which operator on what. Raises PlanError for an axis that cannot be spread, and for networks whose
    forward depends on values, or writes into tensors of which there are other views."""
    demand_fixed(traced.program, folded_tensors(traced.program))
    known = spreadable_axes(traced)
    for axis in owners.axes:
        if axis not in known:
            raise PlanError(f"axis {axis!r} cannot be spread over devices; those that can: {', '.join(known)}")
    return _Arranging(traced, owners).run()


def _activations(program: Program) -> list[int]:
    folded = folded_tensors(program)
    made = [number for op in program.ops for number in op.outputs if number >= 0]
    return [number for number in (*program.inputs, *made) if number not in folded]


def _dims(traced: Traced) -> dict[int, tuple[Expr, ...]]:
    names = Names(traced.tracker.named)
    return {
        number: tuple(names.expr(node) for node in traced.tracker.dims(number))
        for number in range(len(traced.program.shapes))
    }


class _Arranging:
    def __init__(self, traced: Traced, owners: Owners) -> None:
        self.program, self.idle = without_repeats(traced.program)
        self.reductions = traced.tracker.reductions
        self.dims, self.folded = _dims(traced), folded_tensors(self.program)
        self.owners = owners
        self.owners = replace(owners, axes={**owners.axes, **self._at_home(traced)})
        self.places: dict[int, Place] = {}

    def run(self) -> Arrangement:
        self.places |= {number: self._place(number) for number in self.program.inputs}
        steps = [
            self._step(number, op)
            for number, op in enumerate(self.program.ops)
            if number not in self.idle and not self.folded.issuperset(op.outputs)
        ]
        return Arrangement(self.program, self.owners, tuple(steps), self.places, self.dims, last_reads(self.program))

    def _at_home(self, traced: Traced) -> dict[str, np.ndarray]:
        """Axes of weights that are not spread, such as the channels of the inputs and of the outputs."""
        sizes = {axis.name: axis.size for axis in traced.structure.axes if axis.name not in self.owners.axes}
        weights = [
            product.weight
            for number, op in enumerate(self.program.ops)
            for product in [self._product(number, op)]
            if product is not None
        ]
        met = [axis for weight in weights for expr in self.dims[weight] for axis in axes_of(expr) if axis in sizes]
        activations = [self.dims[number] for number in _activations(self.program)]
        found = without_conflicts([*self.owners.axes, *dict.fromkeys(met)], activations)
        return {axis: np.full(sizes[axis], self.owners.home) for axis in found if axis in sizes}

    def _product(self, number: int, op: Op) -> Product | None:
        """The operator as a product with a weight, where it is one."""
        if op.target is aten.convolution.default and op.args[8] == 1:
            x, weight, columns = op.args[0], op.args[1], 0 if op.args[6] else 1
        elif op.target in (aten.mm.default, aten.addmm.default):
            (x, weight), columns = op.args[-2:], 0
        else:
            return None
        if x.id in self.folded or weight.id not in self.folded or number not in self.reductions:
            return None
        contracted = {dim for found in self.reductions[number] if op.args[found.arg] == x for dim in found.dims}
        spread = self.owners.spread_dim(self.dims[x.id])
        return Product(x.id, weight.id, columns) if spread is None or spread in contracted else None

    def _place(self, number: int) -> Place:
        dim = self.owners.spread_dim(self.dims[number])
        along = None if dim is None else self.owners.along(self.dims[number][dim])
        return self._whole(self.owners.home) if along is None else Place(dim, along)

    def _whole(self, device: int) -> Place:
        return Place(None, np.array([device]))

    def _step(self, number: int, op: Op) -> Step:
        read = [tensor for tensor in dict.fromkeys(op.reads) if tensor not in self.folded]
        product = self._product(number, op)
        made = {tensor: self._place(tensor) for tensor in op.outputs if tensor >= 0}
        spread = any(place.dim is not None for place in made.values())
        if spread:
            runners = sorted({device for place in made.values() if place.dim is not None for device in place.devices})
        else:
            runners = [self._runner(read)]
            made = dict.fromkeys(made, self._whole(runners[0]))
        self.places |= made
        reads: dict[int, Part] = {tensor: self._part(number, op, tensor, product, spread=spread) for tensor in read}
        step = Step(number, tuple(runners), reads, product, compact=False)
        return replace(step, compact=spread and self._fits(step, op))

    def _runner(self, read: Sequence[int]) -> int:
        """Who makes a whole tensor: the one that has all that it is made of, else home."""
        has = {device for tensor in read for device in self.places[tensor].devices}
        return has.pop() if len(has) == 1 else self.owners.home

    def _part(self, number: int, op: Op, tensor: int, product: Product | None, *, spread: bool) -> Part:
        if product is not None and tensor == product.activation:
            return "columns"
        reduced = any(
            isinstance(op.args[found.arg], Ref)
            and op.args[found.arg].id == tensor
            and self.places[tensor].dim in found.dims
            for found in self.reductions.get(number, [])
        )
        apart = not reduced or self._stays_in_groups(op)
        return "own" if spread and self.places[tensor].dim is not None and apart else "all"

    def _stays_in_groups(self, op: Op) -> bool:
        """Whether the operator is a convolution in groups of which each is on one device."""
        if op.target is not aten.convolution.default or op.args[8] == 1:
            return False
        x, y = (self.places[number] for number in (op.args[0].id, op.outputs[0]))
        read, made = (place.owners.reshape(op.args[8], -1) for place in (x, y))
        return x.dim == y.dim == 1 and bool((read == made[:, :1]).all() and (made == made[:, :1]).all())

    def _fits(self, step: Step, op: Op) -> bool:
        """Whether the operator makes a device's part of its outputs when it is given the parts of what it reads."""
        if any(part == "all" and self.places[tensor].dim is not None for tensor, part in step.reads.items()):
            return False
        if op.target not in _IN_ORDER and step.product is None and not self._same_channels(op):
            return False
        arrangement = Arrangement(self.program, self.owners, (), self.places, self.dims, {})
        return all(self._makes_its_part(step, op, arrangement, device) for device in step.runners)

    def _same_channels(self, op: Op) -> bool:
        """Whether dimensions that are spread in what it reads are spread in the same way in what it makes."""
        made = {expr for number in op.outputs if number >= 0 for expr in self.dims[number]}
        return all(
            expr in made for number in op.reads for expr in self.dims[number] if self.owners.along(expr) is not None
        )

    def _makes_its_part(self, step: Step, op: Op, arrangement: Arrangement, device: int) -> bool:
        def part(leaf: Any) -> Any:
            if not isinstance(leaf, Ref):
                return leaf
            shape = part_shape(arrangement, leaf.id, device)
            if step.product is not None and leaf.id in (step.product.activation, step.product.weight):
                dim = self.places[leaf.id].dim if leaf.id == step.product.activation else step.product.columns
                shape = [size if at != dim else 1 for at, size in enumerate(shape)]
            return torch.empty(shape, dtype=self.program.dtypes[leaf.id], device="meta")

        args, kwargs = tree_map(part, (op.args, op.kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))
        try:
            made = call(op, args, kwargs, arrangement, device)
        except Exception:  # whatever an operator says to sizes that it cannot do with
            return False
        return all(
            list(tensor.shape) == part_shape(arrangement, number, device)
            for number, tensor in zip(op.outputs, made, strict=False)
            if number >= 0 and self.places[number].dim is not None
        )


def part_shape(arrangement: Arrangement, number: int, device: int) -> list[int]:
    """The shape of a device's part of a tensor."""
    owned = [arrangement.positions(expr, device) for expr in arrangement.dims[number]]
    shape = arrangement.program.shapes[number]
    return [size if own is None else len(own) for size, own in zip(shape, owned, strict=True)]


def call(op: Op, args: Any, kwargs: Any, arrangement: Arrangement, device: int) -> tuple[torch.Tensor, ...]:
    """The operator on a device's parts of tensors."""
    if op.target in WITH_SIZES:
        made = (
            args[0].expand(part_shape(arrangement, op.outputs[0], device))
            if op.target is aten.expand.default
            else (args[0].reshape(part_shape(arrangement, op.outputs[0], device)))
        )
        return (made,)
    if op.target is aten.convolution.default and args[8] > 1:
        whole, own = arrangement.program.shapes[op.outputs[0]][1], part_shape(arrangement, op.outputs[0], device)[1]
        args = (*args[:8], args[8] * own // whole)
    made = out_of_place(op.target)(*args, **kwargs)
    return tuple(made) if isinstance(made, list | tuple) else (made,)
