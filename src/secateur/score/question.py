"""What a criterion is asked, and the group reduction that most criteria share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from secateur.score.reduction import Elements, Summed, sum_along
from secateur.score.statistics import Statistics
from secateur.spec import Axis, ScoreError, Structure, TensorSpec
from secateur.spec.expr import axes_of
from secateur.spec.structure import holder


@dataclass(frozen=True)
class Question:
    """Which axes of which network are to be scored."""

    structure: Structure
    tensors: Mapping[str, torch.Tensor]
    """The network's tensors by name, detached."""
    axes: tuple[Axis, ...]
    """Axes that run through tensors."""
    seed: int = 0
    measured: Statistics | None = None
    """What was measured on data; only for criteria that ask for it."""
    only: str | None = None
    """Count this member alone, to hear its own opinion."""
    blocks: tuple[Axis, ...] = ()
    """Axes of residual blocks, each of size one."""

    @property
    def statistics(self) -> Statistics:
        """What was measured on data; raises ScoreError when nothing was."""
        if self.measured is None:
            raise ScoreError(
                "this criterion looks at data; give data= a loader of batches, or statistics= a file of them"
            )
        return self.measured

    def inside(self, block: Axis) -> Iterator[tuple[str, TensorSpec]]:
        """The parameters and buffers of a residual block."""
        modules = {item.module: item.axis for item in self.structure.blocks if item.axis == block.name}
        for name, spec in self.structure.tensors.items():
            if holder(name, modules) is not None:
                yield name, spec

    def members(self, axis: Axis) -> Iterator[tuple[str, TensorSpec]]:
        """The weights (parameters of two or more dimensions) that the axis runs through."""
        for name, spec in self.structure.tensors.items():
            if spec.kind == "parameter" and len(spec.shape) > 1 and _occurs(axis, spec) and self.counts(name):
                yield name, spec

    def counts(self, name: str) -> bool:
        """Whether the member is asked for."""
        return self.only is None or name == self.only

    def producers(self, axis: Axis) -> Iterator[tuple[str, TensorSpec]]:
        """The weights whose output the axis is; all members when it is the output of none."""
        members = list(self.members(axis))
        made = [(name, spec) for name, spec in members if axis.name in axes_of(spec.dims[0])]
        yield from made or members

    def consumers(self, axis: Axis) -> Iterator[tuple[str, TensorSpec]]:
        """The weights that read the axis: their products with activations reduce over it."""
        for name, dim in self.structure.reads.items():
            spec = self.structure.tensors[name]
            if axis.name in axes_of(spec.dims[dim]):
                yield name, spec

    def norm_scales(self, axis: Axis) -> Iterator[tuple[str, TensorSpec]]:
        """The scales (gamma) of BatchNorms along the axis."""
        yield from self.scales((name, spec) for name, spec in self.structure.tensors.items() if _occurs(axis, spec))

    def scales(self, tensors: Iterable[tuple[str, TensorSpec]]) -> Iterator[tuple[str, TensorSpec]]:
        """The scales (gamma) of the BatchNorms whose variance is among these tensors."""
        for name, _ in tensors:
            scale = name.removesuffix("running_var") + "weight"
            if name.endswith("running_var") and scale in self.structure.tensors:
                yield scale, self.structure.tensors[scale]

    def folded(self, name: str) -> torch.Tensor:
        """The weight with the BatchNorm that follows it multiplied in: gamma * W / sqrt(var + eps), a row each."""
        weight = self.tensors[name]
        for norm in self.structure.norms:
            if norm.weight == name:
                gain = self.tensors[f"{norm.norm}weight"]
                variance = self.tensors.get(f"{norm.norm}running_var")
                if variance is not None:
                    gain = gain / (variance + norm.eps).sqrt()
                weight = weight * gain.reshape(-1, *[1] * (weight.dim() - 1))
        return weight

    def reduce(
        self,
        elements: Elements,
        *,
        power: float = 1.0,
        weights: Callable[[str], torch.Tensor] | None = None,
        normalise: Callable[[torch.Tensor, int], torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Group scores from importances of single elements.

        Per axis and member: the sum of `elements(weight)` over everything else, to the given power, divided by its
        mean over the axis, because members differ in size; then the mean over the members. `weights` gives a member
        in place of the plain tensor, `normalise(sums, elements per index)` replaces the division. The members of a
        block are all weights inside; their sums are divided by their number of elements, and the mean over the members
        by its mean over the blocks.
        """
        sums: dict[str, list[torch.Tensor]] = {axis.name: [] for axis in self.axes}
        wanted = {axis.name: axis for axis in self.axes}
        for name, spec in self.structure.tensors.items():
            if spec.kind != "parameter" or len(spec.shape) < 2 or not self.counts(name):
                continue
            present = sorted({axis for expr in spec.dims for axis in axes_of(expr) if axis in wanted})
            if present:
                weight = self.tensors[name] if weights is None else weights(name)
                idle = [dim for dim, expr in enumerate(spec.dims) if isinstance(expr, int) and expr > 1]
                values = Summed(weight, elements, idle)
                for axis in present:
                    member = sum_along(values, spec.dims, wanted[axis], self.structure) ** power
                    per_index = weight.numel() // member.numel()
                    sums[axis].append(by_mean(member) if normalise is None else normalise(member, per_index))
        scores = {axis: torch.stack(parts).mean(0) for axis, parts in sums.items() if parts}
        return scores | self._reduce_blocks(elements, power, weights, normalise)

    def _reduce_blocks(
        self,
        elements: Elements,
        power: float,
        weights: Callable[[str], torch.Tensor] | None,
        normalise: Callable[[torch.Tensor, int], torch.Tensor] | None,
    ) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for block in self.blocks:
            members: list[torch.Tensor] = []
            for name, spec in self.inside(block):
                if spec.kind == "parameter" and len(spec.shape) > 1:
                    weight = self.tensors[name] if weights is None else weights(name)
                    total = Summed(weight, elements).keeping([])
                    count = weight.numel()
                    members.append((total / count) ** power if normalise is None else normalise(total**power, count))
            if members:
                found[block.name] = torch.stack(members).mean().reshape(1)
        return found if normalise is not None else compared(found)


def _occurs(axis: Axis, spec: TensorSpec) -> bool:
    return any(axis.name in axes_of(expr) for expr in spec.dims)


def compared(scores: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Scores of blocks over their mean."""
    if not scores:
        return {}
    over_mean = by_mean(torch.cat(list(scores.values())))
    return {axis: over_mean[place : place + 1] for place, axis in enumerate(scores)}


def by_mean(member: torch.Tensor) -> torch.Tensor:
    """The member's scores over their mean, or ones where all are zero."""
    mean = member.mean()
    return member / mean if mean > 0 else torch.ones_like(member)
