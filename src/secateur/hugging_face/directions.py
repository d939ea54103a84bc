"""Which ways the axes of a network can move together so that the numbers of its configuration can follow.

In logarithms every dimension is a linear equation: the moves of the axes in it equal those of the numbers behind it,
by their powers. Dimensions of axes that stay whole, and what modules computed when they were built, must not move. The
solutions form a linear space; axes with the same coordinates in it have one size to choose.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from scipy.linalg import null_space

from secateur.hugging_face.building import Key
from secateur.hugging_face.moves import Moves
from secateur.hugging_face.numbers import Path
from secateur.spec import Structure
from secateur.spec.expr import Concat, Expr, size_of

Mover = str | Path
"""An axis by its name, or a number of the configuration by its path."""
Directions = dict[Mover, tuple[float, ...]]
"""Coordinates of the movers that can move at all."""
DIGITS = 6


def directions(structure: Structure, moves: Moves) -> Directions:
    """The coordinates of every axis that is cut by default, and of every number, in the space of what can be said.

    A number that no axis needs is taken to stay: the factor between two sizes (an expansion) moves in steps too coarse
    to be of use.
    """
    movers: list[Mover] = [*(axis.name for axis in structure.axes if axis.chosen), *moves.numbers]
    equations = np.array(list(_equations(structure, moves, movers)))
    found = _solved(equations, movers)
    for path in sorted(moves.numbers, key=lambda path: moves.numbers[path]):
        staying = np.vstack([equations, np.eye(len(movers))[movers.index(path)]])
        without = _solved(staying, movers)
        if all(mover in without for mover in found if isinstance(mover, str)):
            equations, found = staying, without
    return found


def sized(structure: Structure) -> Iterator[tuple[Key, Expr]]:
    """Every dimension of a tensor and every attribute, with its expression in axes."""
    for name, spec in structure.tensors.items():
        for dim, expr in enumerate(spec.dims):
            yield ("tensor", name, dim), expr
    for item in structure.attributes:
        yield ("attribute", item.module, item.name, item.index), item.size


def _equations(structure: Structure, moves: Moves, movers: list[Mover]) -> Iterator[list[float]]:
    """Rows of coefficients of the movers, each row equal to zero; one row of zeros in any case."""
    column = {mover: number for number, mover in enumerate(movers)}
    coefficients: set[tuple[float, ...]] = {(0.0,) * len(movers)}

    def add(row: Mapping[Mover, float]) -> None:
        dense = [0.0] * len(movers)
        for mover, value in row.items():
            if mover in column:
                dense[column[mover]] += value
        coefficients.add(tuple(dense))

    exprs = dict(sized(structure))
    for key in moves.sizes:
        behind = {path: -powers[key] for path, powers in moves.powers.items() if key in powers}
        add({**(_elasticities(exprs[key], structure.sizes) if key in exprs else {}), **behind})
    for tie in structure.ties:
        for (first, _), (second, _) in zip(tie.members, tie.members[1:], strict=False):
            add({first: 1.0, second: -1.0})
    yield from sorted([list(row) for row in coefficients])


def _elasticities(expr: Expr, sizes: Mapping[str, int]) -> dict[Mover, float]:
    """How much the size moves for a small move of each axis, both relative."""
    if isinstance(expr, str):
        return {expr: 1.0}
    if isinstance(expr, int):
        return {}
    total: defaultdict[Mover, float] = defaultdict(float)
    for part in expr.parts:
        weight = size_of(part, sizes) / size_of(expr, sizes) if isinstance(expr, Concat) else 1.0
        for mover, value in _elasticities(part, sizes).items():
            total[mover] += weight * value
    return dict(total)


def _solved(equations: npt.NDArray[np.float64], movers: list[Mover]) -> Directions:
    basis = null_space(equations)
    rows = [tuple(float(value) for value in np.round(row, DIGITS) + 0.0) for row in basis]
    return {mover: row for mover, row in zip(movers, rows, strict=True) if any(row)}
