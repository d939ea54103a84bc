"""Which indices each axis keeps; with the structure it refers to, all that is needed to cut a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from secateur.spec.errors import PlanError
from secateur.spec.record import Record
from secateur.spec.structure import Block, Structure

Indices = tuple[int, ...] | tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Plan(Record):
    """Kept indices per axis; axes that are not mentioned stay whole."""

    structure: Structure
    kept: Mapping[str, Indices]
    """Ascending indices, or one such tuple per parent index for an axis with a parent (`Axis.within`); none for a block
    that leaves."""
    made_by: Mapping[str, str | int | float | None] = field(default_factory=dict[str, str | int | float | None])
    """Criterion, allocator, budget and seed: provenance, not needed to apply the plan."""
    schema_version: int = 1

    def __post_init__(self) -> None:
        try:
            for name, indices in self.kept.items():
                _check(self.structure, name, indices)
            _check_ties(self.structure, self.sizes)
        except KeyError as error:
            raise PlanError(f"the structure of {self.structure.model} lacks axis {error}, which it names") from error

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Kept indices as integer arrays."""
        return {name: np.asarray(indices, dtype=np.int64) for name, indices in self.kept.items()}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Axis sizes after the cut."""
        return {
            axis.name: self.arrays[axis.name].shape[-1] if axis.name in self.kept else axis.size
            for axis in self.structure.axes
        }

    @cached_property
    def removed_blocks(self) -> tuple[Block, ...]:
        """Residual blocks that leave as a whole."""
        return tuple(block for block in self.structure.blocks if self.sizes[block.axis] == 0)


def _check(structure: Structure, name: str, indices: Indices) -> None:
    axis = structure.axis.get(name)
    if axis is None:
        raise PlanError(f"the plan cuts axis {name!r}, which the structure of {structure.model} does not have")
    if axis.pin is not None:
        raise PlanError(f"the plan cuts axis {name!r}, which must stay whole: {axis.pin.detail}")
    rows = _rows(indices)
    parents = structure.sizes[axis.within] if axis.within is not None else 1
    if len(rows) not in (1, parents) or (len(rows) > 1 and axis.within is None):
        raise PlanError(f"axis {name!r}: got {len(rows)} rows of indices, expected 1 or {parents}")
    if len({len(row) for row in rows}) > 1:
        raise PlanError(f"axis {name!r}: every row must keep the same number of indices")
    for row in rows:
        if len(row) < axis.least:
            raise PlanError(f"axis {name!r}: at least {axis.least} must be kept, got {len(row)}")
        if row and (min(row) < 0 or max(row) >= axis.size or (np.diff(row) <= 0).any()):
            raise PlanError(f"axis {name!r}: indices must ascend within 0..{axis.size - 1}")


def _rows(indices: Indices) -> tuple[tuple[int, ...], ...]:
    nested = tuple(row for row in indices if isinstance(row, tuple))
    flat = tuple(index for index in indices if isinstance(index, int))
    return nested if nested else (flat,)


def _check_ties(structure: Structure, sizes: Mapping[str, int]) -> None:
    for tie in structure.ties:
        counts = {sizes[name] / multiple for name, multiple in tie.members}
        if len(counts) > 1:
            shown = ", ".join(f"{name}: {sizes[name]}" for name, _ in tie.members[:4])
            raise PlanError(f"axes that the code ties together got sizes that do not fit: {shown}; {tie.reason}")
