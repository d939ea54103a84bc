"""Which single weights of a network are zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ElementMasks:
    """Masks by parameter; parameters that are not mentioned are not masked."""

    pattern: str
    """Which weights left together: element, 2:4, block:4x1, ..."""
    kept: Mapping[str, npt.NDArray[np.bool_]]
    """Name of a parameter -> array of its shape, False where the weight is zero."""
    made_by: Mapping[str, str | int | float | None] = field(default_factory=dict[str, str | int | float | None])
    """Criterion, allocator, sparsity and seed: provenance, not needed to apply the masks."""

    @property
    def sparsity(self) -> Mapping[str, float]:
        """Removed share of each masked parameter."""
        return {name: 1 - float(kept.mean()) for name, kept in self.kept.items()}
