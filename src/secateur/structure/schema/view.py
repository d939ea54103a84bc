"""The structure as a base schema: for each layer, the slices that leave together with its output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

from secateur.spec import Axis, Structure
from secateur.spec.expr import axes_of

_OF_A_LAYER = ("weight", "bias", "running_mean", "running_var")
_NORM, _OUT, _IN, _DIRECT = range(4)


class Place(NamedTuple):
    """A slice of a layer or parameter, as a schema names it; places sort as a schema lists them."""

    rank: int
    order: int
    """Of the tensor in the network."""
    name: str


def base_schema(structure: Structure, *, prefix: str = "") -> dict[str, list[str]]:
    """Key `<layer>_out` of each layer that produces channels -> the members that leave together with its output.

    Members are norms (`<name>_bn`), producing layers (`<name>_out`), consumers (`<name>_in`) and parameters that are
    used directly (their own name), each in the order of the network; an output that must stay whole has none. Where one
    layer produces the channels and no norm follows, its key alone stands for its output.
    prefix: put before every name.
    """
    view = View(structure, prefix=prefix)
    return {key: view.listed(key, [axis for axis in axes if axis.chosen]) for key, axes in view.outputs.items()}


class View:
    """Which axes stand at which places of a network, by the names of a schema."""

    def __init__(self, structure: Structure, *, prefix: str = "") -> None:
        self.structure = structure
        self.prefix = prefix
        self._order = {name: number for number, name in enumerate(structure.tensors)}

    @cached_property
    def outputs(self) -> dict[str, tuple[Axis, ...]]:
        """Key of each producing layer -> the axes along its output."""
        found: dict[str, dict[str, Axis]] = {}
        for axis, place in self._occurrences():
            if place.rank == _OUT:
                found.setdefault(place.name, {})[axis.name] = axis
        fixed = {place.name: {} for place in self._places() if place.rank == _OUT}
        return {name: tuple(axes.values()) for name, axes in (fixed | found).items()}

    @cached_property
    def axes_at(self) -> dict[str, tuple[Axis, ...]]:
        """Name of a place -> the axes that stand there."""
        found: dict[str, dict[str, Axis]] = {place.name: {} for place in self._places()}
        for axis, place in self._occurrences():
            found[place.name][axis.name] = axis
        return {name: tuple(axes.values()) for name, axes in found.items()}

    def producers(self, axis: str) -> list[str]:
        """Keys of the layers along whose output the axis stands."""
        return [key for key, axes in self.outputs.items() if any(own.name == axis for own in axes)]

    def listed(self, key: str, axes: Iterable[Axis]) -> list[str]:
        """The members of a key as a schema lists them."""
        members = self.members_of(axes)
        others = [name for name in members if name != key]
        alone = all(name.endswith("_in") for name in others)
        return others if others and alone else members

    def members_of(self, axes: Iterable[Axis]) -> list[str]:
        """Names of the places where any of the axes stands."""
        places = sorted({place for axis in axes for place in self._places_of[axis.name]})
        return list(dict.fromkeys(place.name for place in places))

    @cached_property
    def _places_of(self) -> dict[str, set[Place]]:
        places: dict[str, set[Place]] = {axis.name: set() for axis in self.structure.axes}
        for axis, place in self._occurrences():
            places[axis.name].add(place)
        return places

    def _occurrences(self) -> Iterator[tuple[Axis, Place]]:
        for name, spec in self.structure.tensors.items():
            for dim, expr in enumerate(spec.dims):
                for axis in axes_of(expr):
                    yield self.structure.axis[axis], self._place(name, dim)

    def _places(self) -> Iterator[Place]:
        for name, spec in self.structure.tensors.items():
            for dim in range(len(spec.dims)):
                yield self._place(name, dim)

    def _place(self, tensor: str, dim: int) -> Place:
        layer, leaf = _layer_of(tensor)
        if leaf in _OF_A_LAYER:
            weight = self._weights.get(layer)
            if weight is None:
                return Place(_NORM, self._order[tensor], f"{self.prefix}{layer}_bn")
            return self._side(layer, self._order[weight], outwards=dim in self._output_dims(tensor))
        if tensor in self.structure.reads:
            return self._side(tensor, self._order[tensor], outwards=dim in self._output_dims(tensor))
        if dim in self._makers.get(tensor, ()):
            return self._side(tensor, self._order[tensor], outwards=True)
        return Place(_DIRECT, self._order[tensor], f"{self.prefix}{tensor}")

    def _side(self, layer: str, order: int, *, outwards: bool) -> Place:
        rank, suffix = (_OUT, "out") if outwards else (_IN, "in")
        return Place(rank, order, f"{self.prefix}{layer}_{suffix}")

    @cached_property
    def _weights(self) -> dict[str, str]:
        """Layer -> its weight, for layers whose weight has rows and columns."""
        found: dict[str, str] = {}
        for name, spec in self.structure.tensors.items():
            layer, leaf = _layer_of(name)
            if leaf == "weight" and len(spec.dims) > 1:
                found.setdefault(layer, name)
        return found

    @cached_property
    def _makers(self) -> dict[str, tuple[int, ...]]:
        """Parameters used directly -> the dimensions along which no layer produces what is cut by default: there they
        stand for a layer of their own."""
        structure = self.structure
        layers = [*self._weights.values(), *(name for name in structure.reads if _layer_of(name)[1] not in _OF_A_LAYER)]
        made = {axis for name in layers for dim in self._output_dims(name) for axis in self._axes_along(name, dim)}
        found: dict[str, tuple[int, ...]] = {}
        for name, spec in structure.tensors.items():
            if spec.kind != "parameter" or _layer_of(name)[1] in _OF_A_LAYER or name in structure.reads:
                continue
            new = [{axis for axis in axes_of(expr) if structure.axis[axis].chosen} - made for expr in spec.dims]
            found[name] = tuple(dim for dim, axes in enumerate(new) if axes)
            made = made.union(*new)
        return found

    def _axes_along(self, tensor: str, dim: int) -> Iterator[str]:
        return axes_of(self.structure.tensors[tensor].dims[dim])

    def _output_dims(self, tensor: str) -> tuple[int, ...]:
        """The dimensions along a layer's outputs: of a weight all but what its product reduces over, else the one
        beside its bias's; a lookup table has rows in place of inputs."""
        dims, layer = self.structure.tensors[tensor].dims, _layer_of(tensor)[0]
        bias = self.structure.tensors.get(f"{layer}.bias")
        if len(dims) < 2:
            return tuple(range(len(dims)))
        if tensor in self.structure.reads:
            inputs = self.structure.reads[tensor]
        elif bias is not None and bias.dims[0] in dims[:2]:
            inputs = 1 - dims[:2].index(bias.dims[0])
        else:
            inputs = 0 if self._is_lookup(tensor) else 1
        return tuple(dim for dim in range(len(dims)) if dim != inputs)

    def _is_lookup(self, tensor: str) -> bool:
        pins = [self.structure.axis[axis].pin for axis in self._axes_along(tensor, 0)]
        return bool(pins) and all(pin is not None and pin.code == "indexed" for pin in pins)


def _layer_of(tensor: str) -> tuple[str, str]:
    """Path of the layer and name within it; the halves of a parametrised weight belong to that weight."""
    if ".parametrizations." in tensor:
        layer, _, rest = tensor.partition(".parametrizations.")
        return layer, rest.partition(".")[0]
    layer, _, leaf = tensor.rpartition(".")
    return layer, leaf
