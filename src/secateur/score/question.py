"""What a criterion is asked, and the group reduction that most criteria share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from secateur.spec import Axis, Structure, TensorSpec
from secateur.spec.expr import axes_of, index_along

Elements = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Question:
    """Which axes of which network are to be scored."""

    structure: Structure
    tensors: Mapping[str, torch.Tensor]
    """The network's tensors by name, detached."""
    axes: tuple[Axis, ...]
    seed: int = 0

    def members(self, axis: Axis) -> Iterator[tuple[str, TensorSpec]]:
        """The weights (parameters of two or more dimensions) that the axis runs through."""
        for name, spec in self.structure.tensors.items():
            if spec.kind == "parameter" and len(spec.shape) > 1 and _occurs(axis, spec):
                yield name, spec

    def norm_scales(self, axis: Axis) -> Iterator[tuple[str, TensorSpec]]:
        """The scales (gamma) of BatchNorms along the axis."""
        for name, spec in self.structure.tensors.items():
            if name.endswith("running_var") and _occurs(axis, spec):
                scale = name.removesuffix("running_var") + "weight"
                if scale in self.structure.tensors:
                    yield scale, self.structure.tensors[scale]

    def reduce(self, elements: Elements, *, power: float = 1.0) -> dict[str, torch.Tensor]:
        """Group scores from importances of single elements.

        Per axis and member: the sum of `elements(weight)` over everything else, to the given power, divided by its
        mean over the axis, because members differ in size; then the mean over the members.
        """
        sums: dict[str, list[torch.Tensor]] = {axis.name: [] for axis in self.axes}
        wanted = {axis.name: axis for axis in self.axes}
        for name, spec in self.structure.tensors.items():
            if spec.kind != "parameter" or len(spec.shape) < 2:
                continue
            present = sorted({axis for expr in spec.dims for axis in axes_of(expr) if axis in wanted})
            if present:
                values = _without_idle_dims(elements(self.tensors[name]), spec)
                for axis in present:
                    sums[axis].append(_normalised(sum_along(values, spec, wanted[axis], self.structure) ** power))
        return {axis: torch.stack(parts).mean(0) for axis, parts in sums.items() if parts}


def _without_idle_dims(values: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """Summed (with size one left) over dimensions that no axis runs along, once for all axes: kernels are small and
    many."""
    idle = [dim for dim, expr in enumerate(spec.dims) if isinstance(expr, int) and expr > 1]
    return values.sum(idle, keepdim=True) if idle else values


def _occurs(axis: Axis, spec: TensorSpec) -> bool:
    return any(axis.name in axes_of(expr) for expr in spec.dims)


def _normalised(member: torch.Tensor) -> torch.Tensor:
    mean = member.mean()
    return member / mean if mean > 0 else torch.ones_like(member)


def sum_along(values: torch.Tensor, spec: TensorSpec, axis: Axis, structure: Structure) -> torch.Tensor:
    """Sum of `values` over everything but the axis: `(size,)`, or `(parent size, size)` for an axis with a parent;
    float64."""
    holding = [dim for dim, expr in enumerate(spec.dims) if axis.name in axes_of(expr)]
    return torch.stack([_sum_at(values, spec, axis, structure, dim) for dim in holding]).sum(0)


def _sum_at(values: torch.Tensor, spec: TensorSpec, axis: Axis, structure: Structure, dim: int) -> torch.Tensor:
    if spec.dims[dim] == axis.name and axis.within is None:
        return _reduced(values, [dim])
    index = index_along(spec.dims[dim], axis.name, structure.sizes)
    if axis.within is None:
        return _scatter(_reduced(values, [dim]), index, axis.size)
    parents = structure.sizes[axis.within]
    own_parent = index_along(spec.dims[dim], axis.within, structure.sizes)
    if (own_parent[index >= 0] >= 0).all():
        key = np.where(index >= 0, own_parent * axis.size + index, -1)
        return _scatter(_reduced(values, [dim]), key, parents * axis.size).reshape(parents, axis.size)
    partner = next(d for d, expr in enumerate(spec.dims) if d != dim and axis.within in axes_of(expr))
    outer = index_along(spec.dims[partner], axis.within, structure.sizes)
    table = _reduced(values, [partner, dim])
    both = (outer[:, None] >= 0) & (index[None, :] >= 0)
    key = np.where(both, outer[:, None] * axis.size + index[None, :], -1)
    flat = table if partner < dim else table.T
    return _scatter(flat.reshape(-1), key.reshape(-1), parents * axis.size).reshape(parents, axis.size)


def _reduced(values: torch.Tensor, keep: Sequence[int]) -> torch.Tensor:
    others = [dim for dim in range(values.dim()) if dim not in keep]
    return (values.sum(others) if others else values).to(torch.float64)


def _scatter(values: torch.Tensor, index: np.ndarray, size: int) -> torch.Tensor:
    if len(index) == size and (index == np.arange(size)).all():
        return values
    inside = torch.as_tensor(np.flatnonzero(index >= 0), device=values.device)
    target = torch.as_tensor(index[index >= 0], device=values.device)
    return torch.zeros(size, dtype=torch.float64, device=values.device).index_add_(0, target, values[inside])
