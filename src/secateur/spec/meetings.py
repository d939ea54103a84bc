"""Where axes meet modules: who makes an axis, who reads it, who has nothing but it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from secateur.spec.expr import axes_of
from secateur.spec.structure import Axis, Structure


@dataclass
class Meeting:
    """The modules that meet on an axis."""

    axis: Axis
    number: int
    makers: list[str] = field(default_factory=list[str])
    """Modules whose results have the axis."""
    readers: list[str] = field(default_factory=list[str])
    """Modules that sum over it."""
    along: list[str] = field(default_factory=list[str])
    """Modules whose weights have no other axis: depthwise convolutions, position embeddings."""
    norms: int = 0
    """Modules that have vectors alone."""

    @property
    def modules(self) -> list[str]:
        return [*self.makers, *self.readers, *self.along]


def places(structure: Structure) -> Iterator[tuple[str, str, int]]:
    """Each axis, tensor and dimension in which it occurs, in the order of the tensors."""
    for name, tensor in structure.tensors.items():
        for dim, expr in enumerate(tensor.dims):
            for axis in dict.fromkeys(axes_of(expr)):
                yield axis, name, dim


def module_of(tensor: str) -> str:
    """The module of a parameter; a parameter of the model itself stands for itself."""
    return tensor.rpartition(".")[0] or tensor


def find_meetings(structure: Structure) -> list[Meeting]:
    """A meeting for each axis that a module has, in the order of the axes."""
    found = {axis.name: Meeting(axis, number) for number, axis in enumerate(structure.axes)}
    inside = {(tensor, dim) for _, tensor, dim in places(structure)}
    ranks: dict[str, int] = {}
    for name, tensor in structure.tensors.items():
        if tensor.kind == "parameter":
            ranks[module_of(name)] = max(ranks.get(module_of(name), 0), len(tensor.shape))
    counted: set[tuple[str, str]] = set()
    for axis, tensor, dim in places(structure):
        module, spec = module_of(tensor), structure.tensors[tensor]
        if spec.kind != "parameter" or (ranks[module] > 1 and len(spec.shape) == 1):
            continue
        if ranks[module] == 1:
            found[axis].norms += (axis, module) not in counted
            counted.add((axis, module))
        elif module not in (listed := _side(found[axis], structure, tensor, dim, inside)):
            listed.append(module)
    return [meeting for meeting in found.values() if meeting.modules]


def _side(meeting: Meeting, structure: Structure, tensor: str, dim: int, inside: set[tuple[str, int]]) -> list[str]:
    if structure.reads.get(tensor) == dim:
        return meeting.readers
    others = (other for other in range(len(structure.tensors[tensor].shape)) if other != dim)
    return meeting.makers if any((tensor, other) in inside for other in others) else meeting.along
