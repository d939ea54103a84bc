"""An arrangement as a record: what every device has to know beside its weights. Only operators that Secateur has a
rule for are read back, which compute and do nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload
from torch.utils._pytree import tree_map

from secateur.partition.owners import Owners
from secateur.partition.steps import Arrangement, Part, Place, Product, Step
from secateur.partition.topology import Topology
from secateur.partition.traffic import Needs
from secateur.spec import StoreError
from secateur.spec.record import Record
from secateur.spec.structure import JsonExpr
from secateur.structure.program import Op, Program, Ref, last_reads
from secateur.structure.rules.table import find_rule

_KINDS: Mapping[str, type] = {
    "dtype": torch.dtype,
    "device": torch.device,
    "memory_format": torch.memory_format,
    "layout": torch.layout,
}


@dataclass(frozen=True)
class OpRecord:
    """One operator; `{"tensor": 3}` stands for a tensor."""

    name: str
    """`name.overload`, of aten."""
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class StepRecord:
    """One operator as devices run it."""

    number: int
    runners: tuple[int, ...]
    reads: Mapping[int, Part]
    product: Product | None
    compact: bool


@dataclass(frozen=True)
class PlaceRecord:
    """Where a tensor is."""

    dim: int | None
    owners: tuple[int, ...]


@dataclass(frozen=True)
class ShardRecord:
    """A device's file of weights."""

    sha256: str
    size_bytes: int
    shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SplitRecord(Record):
    """A network taken apart."""

    topology: Topology
    ops: tuple[OpRecord, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    owners: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]
    dims: Mapping[int, tuple[JsonExpr, ...]]
    places: Mapping[int, PlaceRecord]
    steps: tuple[StepRecord, ...]
    needs: Mapping[int, tuple[tuple[int, ...], ...]]
    """Of each tensor that crosses, for each device the positions that it needs and does not own."""
    shards: tuple[ShardRecord, ...]
    made_by: Mapping[str, str | int | float | None]
    digest: str = ""
    """sha256 of all the rest."""
    schema_version: int = 2

    def signed(self) -> SplitRecord:
        """With its digest."""
        return replace(self, digest=self._digest())

    def demand_unchanged(self) -> None:
        """Raise StoreError for a record that is not as it was written."""
        if self.digest != self._digest():
            raise StoreError("the record of this partition was changed after it was written; partition again")

    def _digest(self) -> str:
        return sha256(replace(self, digest="").to_json().encode()).hexdigest()

    def arrangement(self) -> Arrangement:
        """Raises StoreError for operators that are not known, and numbers that do not fit together."""
        try:
            self._demand_whole()
            return self._arrangement()
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the record of this partition contradicts itself: {error}; partition again") from error

    def _demand_whole(self) -> None:
        """Devices, tensors and operators that are spoken of are there."""
        devices = range(self.topology.devices)
        spoken = [device for step in self.steps for device in step.runners]
        spoken += [device for place in self.places.values() for device in place.owners]
        numbers = [
            *self.inputs,
            *self.outputs,
            *self.places,
            *self.needs,
            *(n for step in self.steps for n in step.reads),
        ]
        numbers += [abs(number) for op in self.ops for number in op.outputs]
        if len(self.shards) != len(devices) or any(len(needed) != len(devices) for needed in self.needs.values()):
            raise ValueError(f"{len(self.shards)} shards for {len(devices)} devices")
        if not all(device in devices for device in spoken):
            raise ValueError(f"devices {sorted(set(spoken))}, of {len(devices)}")
        if not all(0 <= number < len(self.shapes) for number in numbers) or len(self.dtypes) != len(self.shapes):
            raise ValueError(f"tensors beyond the {len(self.shapes)} that it describes")
        for tensor, needed in self.needs.items():
            if any(not 0 <= at < len(self.places[tensor].owners) for positions in needed for at in positions):
                raise ValueError(f"entries of tensor {tensor} that it does not have")

    def _arrangement(self) -> Arrangement:
        program = Program(
            ops=[_op(record) for record in self.ops],
            shapes=list(self.shapes),
            dtypes=[_dtype(name) for name in self.dtypes],
            inputs=list(self.inputs),
            outputs=list(self.outputs),
        )
        axes = {axis: np.asarray(own, dtype=np.int64) for axis, own in self.owners.items()}
        return Arrangement(
            program,
            Owners(self.topology.devices, self.topology.home, axes, self.sizes),
            tuple(Step(s.number, s.runners, s.reads, s.product, s.compact) for s in self.steps),
            {number: Place(p.dim, np.asarray(p.owners, dtype=np.int64)) for number, p in self.places.items()},
            self.dims,
            last_reads(program),
        )

    def find_needs(self) -> Needs:
        """As arrays."""
        made: dict[int, np.ndarray] = {}
        for tensor, devices in self.needs.items():
            made[tensor] = np.zeros((self.topology.devices, len(self.places[tensor].owners)), dtype=bool)
            for device, positions in enumerate(devices):
                made[tensor][device, list(positions)] = True
        return made


def describe(
    arrangement: Arrangement,
    needs: Needs,
    topology: Topology,
    shards: tuple[ShardRecord, ...],
    made_by: Mapping[str, str | int | float | None],
) -> SplitRecord:
    """The record of an arrangement."""
    program = arrangement.program
    run = {step.number for step in arrangement.steps}
    return SplitRecord(
        topology=topology,
        ops=tuple(_record(op) if number in run else _NOTHING for number, op in enumerate(program.ops)),
        shapes=tuple(tuple(int(size) for size in shape) for shape in program.shapes),
        dtypes=tuple(str(dtype).removeprefix("torch.") for dtype in program.dtypes),
        inputs=tuple(program.inputs),
        outputs=tuple(program.outputs),
        owners={axis: tuple(own.tolist()) for axis, own in arrangement.owners.axes.items()},
        sizes=arrangement.owners.sizes,
        dims=dict(arrangement.dims),
        places={n: PlaceRecord(p.dim, tuple(p.owners.tolist())) for n, p in arrangement.places.items()},
        steps=tuple(
            StepRecord(step.number, step.runners, step.reads, step.product, step.compact) for step in arrangement.steps
        ),
        needs={
            tensor: tuple(tuple(np.flatnonzero(row).tolist()) for row in needed) for tensor, needed in needs.items()
        },
        shards=shards,
        made_by=made_by,
    )


_NOTHING = OpRecord("", (), {}, ())
"""In place of an operator that depends on weights alone: no device runs it."""


def _record(op: Op) -> OpRecord:
    name = op.target._schema.name.removeprefix("aten::")
    args, kwargs = tree_map(_written, (op.args, op.kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))
    return OpRecord(f"{name}.{op.target._overloadname}", tuple(args), kwargs, tuple(op.outputs))


def _written(leaf: Any) -> Any:
    if isinstance(leaf, Ref):
        return {"tensor": leaf.id}
    for kind, of in _KINDS.items():
        if isinstance(leaf, of):
            return {kind: str(leaf).removeprefix("torch.")}
    if isinstance(leaf, float) and not math.isfinite(leaf):
        return {"float": str(leaf)}
    return int(leaf) if isinstance(leaf, int) and not isinstance(leaf, bool) else leaf


def _op(record: OpRecord) -> Op:
    if record == _NOTHING:
        return Op(torch.ops.aten.empty.memory_format, (), {}, [], "", None)
    name, _, overload = record.name.partition(".")
    target = getattr(getattr(torch.ops.aten, name, None), overload, None)
    if not isinstance(target, OpOverload) or find_rule(target) is None:
        raise StoreError(f"operator aten::{record.name} of this partition has no rule in this Secateur; not run")
    args = tree_map(_read, list(record.args), is_leaf=_is_written)
    kwargs = {name: tree_map(_read, value, is_leaf=_is_written) for name, value in record.kwargs.items()}
    return Op(target, tuple(args), kwargs, list(record.outputs), "", None)


def _is_written(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("tensor", "float", *_KINDS)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _read(leaf: Any) -> Any:
    if not _is_written(leaf):
        return leaf
    ((kind, value),) = leaf.items()
    if kind in ("tensor", "float"):
        return Ref(int(value)) if kind == "tensor" else float(value)
    return torch.device("cpu") if kind == "device" else _named(value, _KINDS[kind])


def _dtype(name: str) -> torch.dtype:
    return _named(name, torch.dtype)


def _named(name: str, kind: type) -> Any:
    found = getattr(torch, name)
    if not isinstance(found, kind):
        raise ValueError(f"{name!r} is no {kind.__name__}")
    return found
