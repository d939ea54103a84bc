"""Exact cost of any plan: polynomials in axis sizes, compiled to arrays, priced in microseconds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from secateur.spec import Structure, Term

Sizes = npt.NDArray[np.int64]


class CostModel:
    """One cost of a structure (`macs`, `params`, ...) as a function of the axis sizes.

    Sizes are given as an array in the order of `names`. Results are exact integers up to 2**63.
    """

    def __init__(self, structure: Structure, cost: str) -> None:
        self.names: tuple[str, ...] = tuple(axis.name for axis in structure.axes)
        self.full: Sizes = np.array([axis.size for axis in structure.axes], dtype=np.int64)
        terms = structure.costs[cost]
        width = max((len(term.axes) for term in terms), default=0)
        position = {name: number for number, name in enumerate(self.names)}
        self._one = len(self.names)
        self._coefficients = np.array([term.coefficient for term in terms], dtype=np.int64)
        self._factors = np.array([self._row(term, width, position) for term in terms], dtype=np.intp).reshape(
            len(terms), width
        )

    def _row(self, term: Term, width: int, position: Mapping[str, int]) -> list[int]:
        return [position[name] for name in term.axes] + [self._one] * (width - len(term.axes))

    def __call__(self, sizes: Sizes) -> int:
        """The cost at these sizes."""
        padded = np.append(sizes, 1)
        return int((self._coefficients * padded[self._factors].prod(axis=1)).sum())

    def at(self, sizes: Mapping[str, int]) -> int:
        """The cost at sizes given by name; axes that are not mentioned have their full size."""
        array = self.full.copy()
        for number, name in enumerate(self.names):
            array[number] = sizes.get(name, int(array[number]))
        return self(array)
