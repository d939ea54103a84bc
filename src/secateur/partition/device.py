"""One device's part of a network: its own rows of every weight, run operator by operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from secateur.partition.steps import Arrangement, Step, call
from secateur.partition.traffic import Needs, own_rows
from secateur.structure.program import Program, Ref, out_of_place

END = -1
"""In place of a step: when all have run."""
Shard = Mapping[str, Tensor]
"""What a device holds of the weights, by name: the first step that reads a part and its tensor, `12.34`."""


@dataclass(frozen=True)
class Sending:
    """Entries of a tensor that go from one device to another."""

    number: int
    """Of all of a run, in the order in which they cross."""
    tensor: int
    sender: int
    receiver: int
    positions: np.ndarray
    """Along the dimension in which the tensor is spread."""


def find_sendings(arrangement: Arrangement, needs: Needs) -> dict[int, list[Sending]]:
    """By number of the step before which they cross: the first that needs any of the tensor."""
    found: dict[int, list[Sending]] = defaultdict(list)
    left, numbers = dict(needs), count()
    for step in arrangement.steps:
        for tensor, part in step.reads.items():
            if part != "own" and tensor in left:
                found[step.number] += _sendings(arrangement, tensor, left.pop(tensor), numbers)
    for tensor, needed in left.items():
        found[END] += _sendings(arrangement, tensor, needed, numbers)
    return dict(found)


def _sendings(arrangement: Arrangement, tensor: int, needed: np.ndarray, numbers: Iterator[int]) -> list[Sending]:
    owners = arrangement.places[tensor].owners
    return [
        Sending(next(numbers), tensor, sender, receiver, np.flatnonzero(needed[receiver] & (owners == sender)))
        for receiver in range(len(needed))
        for sender in range(len(needed))
        if bool((needed[receiver] & (owners == sender)).any())
    ]


@dataclass(frozen=True)
class Held:
    """Part of a tensor that depends on weights alone, which a device holds."""

    tensor: int
    positions: Mapping[int, np.ndarray]
    """By dimension; all of those that are not spoken of."""
    name: str
    """In the shard."""


def held_by(arrangement: Arrangement, needs: Needs, device: int) -> dict[tuple[int, int], Held]:
    """By step and tensor what the device reads of the weights; the same for all steps that read the same part."""
    found: dict[tuple[int, int], Held] = {}
    known: dict[Any, Held] = {}
    for step in arrangement.steps:
        if device in step.runners:
            for number in dict.fromkeys(arrangement.program.ops[step.number].reads):
                if number not in step.reads:
                    positions = _positions(arrangement, step, needs, number, device)
                    part = (number, *((dim, positions[dim].tobytes()) for dim in sorted(positions)))
                    held = Held(number, positions, f"{step.number}.{number}")
                    found[step.number, number] = known.setdefault(part, held)
    return found


def cut_shards(arrangement: Arrangement, needs: Needs, folded: Mapping[int, Tensor]) -> list[dict[str, Tensor]]:
    """Each device's part of the tensors that depend on weights alone, given whole by number."""
    return [
        {held.name: _part(folded[held.tensor], held) for held in held_by(arrangement, needs, device).values()}
        for device in range(arrangement.owners.devices)
    ]


def _part(tensor: Tensor, held: Held) -> Tensor:
    for dim, positions in held.positions.items():
        tensor = tensor.index_select(dim, torch.from_numpy(positions))
    return tensor.contiguous().clone()


def _positions(
    arrangement: Arrangement, step: Step, needs: Needs, number: int, device: int
) -> Mapping[int, np.ndarray]:
    """By dimension what the device holds of a tensor that a step reads; all of those that are not spoken of."""
    product = step.product
    if product is not None and number == product.weight:
        rows = {1 - product.columns: own_rows(arrangement, step, device)}
        if arrangement.places[product.activation].dim is None:
            return rows
        return {product.columns: at_hand(arrangement, needs, product.activation, device), **rows}
    if not step.compact and product is None:
        return {}
    own = {dim: arrangement.positions(expr, device) for dim, expr in enumerate(arrangement.dims[number])}
    return {dim: positions for dim, positions in own.items() if positions is not None}


def shard_bytes(arrangement: Arrangement, needs: Needs) -> np.ndarray:
    """`(devices,)`: what each device holds of the weights when this crosses."""
    program = arrangement.program
    made = np.zeros(arrangement.owners.devices, dtype=np.int64)
    for device in range(len(made)):
        for held in {held.name: held for held in held_by(arrangement, needs, device).values()}.values():
            shape = list(program.shapes[held.tensor])
            for dim, positions in held.positions.items():
                shape[dim] = len(positions)
            made[device] += prod(shape) * program.dtypes[held.tensor].itemsize
    return made


def fold(program: Program, held: Mapping[str, Tensor], numbers: frozenset[int]) -> dict[int, Tensor]:
    """Values of the tensors that depend on weights alone. held: the model's tensors by name."""
    values = {**program.constants, **{number: held[name] for number, name in program.named.items()}}
    for op in program.ops:
        if op.outputs and numbers.issuperset(op.outputs):
            args, kwargs = _filled(op.args, op.kwargs, values)
            made = out_of_place(op.target)(*args, **kwargs)
            values.update(zip(op.outputs, made if isinstance(made, list | tuple) else (made,), strict=False))
    return values


def at_hand(arrangement: Arrangement, needs: Needs, tensor: int, device: int) -> np.ndarray:
    """Positions of a tensor that the device owns or is given, ascending. Where there are none, the first, of which
    zeros take the place: operators want something to work on."""
    own = arrangement.places[tensor].owners == device
    found = np.flatnonzero(own | needs[tensor][device] if tensor in needs else own)
    return found if len(found) else np.zeros(1, dtype=np.int64)


class Device:
    """What one device knows and does. Its caller goes through the steps, carries what crosses before each, and runs
    it."""

    def __init__(self, arrangement: Arrangement, needs: Needs, shard: Shard, device: int) -> None:
        self.arrangement, self.shard, self.device = arrangement, shard, device
        self._held = {place: held.name for place, held in held_by(arrangement, needs, device).items()}
        self._made: dict[int, Tensor] = {}
        self._given: dict[int, list[tuple[np.ndarray, Tensor]]] = {}

    def begin(self, inputs: Sequence[Tensor]) -> None:
        """Forget the last run; inputs: tensors among the network's inputs, which the home device alone has."""
        self._made, self._given = {}, {}
        if self.device == self.arrangement.owners.home:
            self._made = dict(zip(self.arrangement.program.inputs, inputs, strict=True))

    def give(self, sending: Sending) -> Tensor:
        """The entries to send."""
        place, made = self.arrangement.places[sending.tensor], self._made[sending.tensor]
        if place.dim is None:
            return made.contiguous()
        among = np.searchsorted(place.own(self.device), sending.positions)
        return made.index_select(place.dim, torch.from_numpy(among)).contiguous()

    def room(self, sending: Sending) -> Tensor:
        """A tensor for entries that are to come."""
        return self._zeros(sending.tensor, len(sending.positions))

    def take(self, sending: Sending, entries: Tensor) -> None:
        """Keep entries that have come."""
        self._given.setdefault(sending.tensor, []).append((sending.positions, entries))

    def run(self, step: Step) -> None:
        """Run an operator, if it is this device's to run, and forget what nothing reads any more."""
        op = self.arrangement.program.ops[step.number]
        if self.device in step.runners:
            values = {number: self._read(step, number) for number in dict.fromkeys(op.reads)}
            args, kwargs = _filled(op.args, op.kwargs, values)
            if step.compact:
                made = call(op, args, kwargs, self.arrangement, self.device)
            else:
                whole = out_of_place(op.target)(*args, **kwargs)
                made = [
                    self._own(number, tensor) if number >= 0 else tensor
                    for number, tensor in zip(
                        op.outputs, whole if isinstance(whole, list | tuple) else (whole,), strict=False
                    )
                ]
            self._made.update(zip(op.outputs, made, strict=False))
        for number in {*op.reads, *op.outputs}:
            if self.arrangement.last.get(number, -1) <= step.number:
                self._made.pop(number, None)
                self._given.pop(number, None)

    def outputs(self) -> list[Tensor]:
        """The network's outputs, at home, once all steps have run and what crosses at the end has come."""
        return [self._at_hand(number) for number in self.arrangement.program.outputs]

    def _read(self, step: Step, number: int) -> Tensor:
        part = step.reads.get(number)
        if part is None:
            return self.shard[self._held[step.number, number]]
        if part != "own":
            return self._at_hand(number)
        own = self._made[number] if number in self._made else self._zeros(number, 0)
        return own if step.compact else self._widened(number, own)

    def _at_hand(self, number: int) -> Tensor:
        """All that is here of a tensor, in order."""
        place, found = self.arrangement.places[number], self._given.get(number, [])
        if number in self._made:
            found = [(place.own(self.device), self._made[number]), *found]
        if not found:
            return self._zeros(number, 1)
        if place.dim is None:
            return found[0][1]
        order = np.argsort(np.concatenate([positions for positions, _ in found]))
        entries = torch.cat([entries for _, entries in found], dim=place.dim)
        return entries.index_select(place.dim, torch.from_numpy(order))

    def _zeros(self, number: int, positions: int) -> Tensor:
        """As many positions of a tensor; all of a whole one."""
        program, place = self.arrangement.program, self.arrangement.places[number]
        shape = list(program.shapes[number])
        if place.dim is not None:
            shape[place.dim] = positions
        return torch.zeros(shape, dtype=program.dtypes[number])

    def _widened(self, number: int, own: Tensor) -> Tensor:
        """The device's part of a tensor within zeros."""
        place = self.arrangement.places[number]
        assert place.dim is not None
        whole = self._zeros(number, len(place.owners))
        return whole.index_copy(place.dim, torch.from_numpy(place.own(self.device)), own)

    def _own(self, number: int, whole: Tensor) -> Tensor:
        place = self.arrangement.places[number]
        if place.dim is None:
            return whole
        return whole.index_select(place.dim, torch.from_numpy(place.own(self.device)))


def _filled(args: Any, kwargs: Any, values: Mapping[int, Tensor]) -> tuple[Any, Any]:
    """The arguments with tensors in place of their numbers."""

    def value(leaf: Any) -> Any:
        return values[leaf.id] if isinstance(leaf, Ref) else leaf

    return tree_map(value, (args, kwargs), is_leaf=lambda leaf: isinstance(leaf, Ref))


def run_together(
    devices: Sequence[Device], sendings: Mapping[int, Sequence[Sending]], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """What the network makes of these inputs when all devices are in this process; the proof that the parts fit."""
    arrangement = devices[0].arrangement
    for device in devices:
        device.begin(inputs)
    for step in arrangement.steps:
        _carry(devices, sendings.get(step.number, ()))
        for device in devices:
            device.run(step)
    _carry(devices, sendings.get(END, ()))
    return devices[arrangement.owners.home].outputs()


def _carry(devices: Sequence[Device], sendings: Sequence[Sending]) -> None:
    for sending in sendings:
        devices[sending.receiver].take(sending, devices[sending.sender].give(sending).clone())
