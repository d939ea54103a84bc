"""Groups of a structure as numbers: sums over all slices that leave together, and factors spread over them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from secateur.spec import Axis, BudgetError, Structure
from secateur.spec.expr import Expr, axes_of, index_along


@dataclass(frozen=True)
class Place:
    """Where an axis stands in a parameter."""

    parameter: str
    axis: str
    key: Tensor
    """The index of the group that each entry is in, of a shape that broadcasts to the parameter's; the number of groups
    where it is in none."""
    reads: bool
    """Whether the parameter's product with activations reduces over it: the entries that read the group."""


class Groups:
    """The groups that may go: one for each index of each axis that is cut by default, blocks apart.

    A group holds all slices of parameters in which its index occurs, through residual streams and norms. Of an axis
    that chooses its indices per index of a parent, each index of each parent index is one.
    """

    def __init__(self, model: nn.Module, structure: Structure) -> None:
        """Raises BudgetError where nothing may go."""
        self.structure = structure
        self.axes = tuple(axis for axis in structure.axes if axis.chosen and axis.role != "blocks")
        if not self.axes:
            raise BudgetError(
                f"nothing of {structure.model} may be cut; `secateur inspect --why` says what keeps each axis whole"
            )
        named = dict(model.named_parameters())
        specs = {name: spec for name, spec in structure.tensors.items() if name in named}
        self.places = tuple(
            Place(name, axis.name, key, structure.reads.get(name) == dim)
            for axis in self.axes
            for name, spec in specs.items()
            for dim, expr in enumerate(spec.dims)
            if axis.name in axes_of(expr)
            for key in [torch.from_numpy(_key(spec.dims, dim, axis, structure))]
        )
        names = dict.fromkeys(place.parameter for place in self.places)
        self.parameters: dict[str, nn.Parameter] = {name: named[name] for name in names}
        self.counts = self.sums(torch.ones_like)
        """Entries in each group, by axis."""

    def sums(self, entries: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Sums of a function of each entry over each group: `(groups,)` by axis."""
        self._follow()
        made = {axis.name: _zeros(self._size(axis), self.parameters) for axis in self.axes}
        for name, places in self._by_parameter():
            values = entries(self.parameters[name].detach()).to(next(iter(made.values())))
            for place in places:
                others = [dim for dim, size in enumerate(place.key.shape) if size == 1]
                part = values.sum(others, keepdim=True) if others else values
                made[place.axis].index_add_(0, place.key.flatten(), part.flatten())
        return {axis: total[:-1] for axis, total in made.items()}

    def norms(self) -> dict[str, Tensor]:
        """The Euclidean norm of each group, `(groups,)` by axis."""
        return {axis: total.sqrt() for axis, total in self.sums(torch.square).items()}

    def spread(self, factors: Mapping[str, Tensor], *, readers: bool = False) -> dict[str, Tensor]:
        """One factor per group, `(groups,)` by axis, becomes one per entry of each parameter, the product of those of
        the groups that it is in, of a shape that broadcasts to the parameter's.

        readers: of the entries alone that read the group: factors there are gates on what it puts out.
        """
        self._follow()
        made: dict[str, Tensor] = {}
        for place in self.places:
            if place.reads or not readers:
                own = factors[place.axis]
                factor = torch.cat([own, own.new_ones(1)])[place.key]
                made[place.parameter] = made[place.parameter] * factor if place.parameter in made else factor
        return made

    def shaped(self, axis: Axis, values: Tensor) -> Tensor:
        """One value per group as scores of the axis: `(size,)`, or `(parent size, size)`."""
        return values if axis.within is None else values.reshape(-1, axis.size)

    def _follow(self) -> None:
        """To where the model is by now: loops move models to their device."""
        device = next(iter(self.parameters.values())).device
        if self.places[0].key.device != device:
            self.places = tuple(replace(place, key=place.key.to(device)) for place in self.places)

    def _size(self, axis: Axis) -> int:
        return axis.size * (1 if axis.within is None else self.structure.sizes[axis.within])

    def _by_parameter(self) -> Iterator[tuple[str, list[Place]]]:
        for name in self.parameters:
            yield name, [place for place in self.places if place.parameter == name]


def _zeros(groups: int, parameters: Mapping[str, nn.Parameter]) -> Tensor:
    """One more than there are groups, for entries that are in none; where and as precise as the parameters."""
    first = next(iter(parameters.values()))
    return torch.zeros(groups + 1, dtype=torch.promote_types(first.dtype, torch.float32), device=first.device)


def _key(dims: Sequence[Expr], dim: int, axis: Axis, structure: Structure) -> np.ndarray:
    """See `Place.key`; the parent of an axis may stand in the same dimension or in another."""
    sizes = structure.sizes
    index = _along(dims, dim, index_along(dims[dim], axis.name, sizes))
    if axis.within is None:
        return np.where(index < 0, axis.size, index)
    own = index_along(dims[dim], axis.within, sizes)
    beside = [other for other, expr in enumerate(dims) if other != dim and axis.within in axes_of(expr)]
    here = not beside or (own >= 0).any()
    parent = (
        _along(dims, dim, own) if here else _along(dims, beside[0], index_along(dims[beside[0]], axis.within, sizes))
    )
    return np.where((index < 0) | (parent < 0), sizes[axis.within] * axis.size, parent * axis.size + index)


def _along(dims: Sequence[Expr], dim: int, index: np.ndarray) -> np.ndarray:
    return index.reshape([-1 if place == dim else 1 for place in range(len(dims))])
