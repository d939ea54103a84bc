"""Which device has which indices of each axis, and with them which part of each tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secateur.spec.expr import Concat, Expr, axes_of, index_along

_NOBODY = -1


@dataclass(frozen=True)
class Owners:
    """Of each axis that is spread over devices the owner of every index; other axes are whole wherever they occur."""

    devices: int
    home: int
    """The device that inputs come from and outputs go to."""
    axes: Mapping[str, np.ndarray]
    sizes: Mapping[str, int]
    """Of all axes of the network."""

    def along(self, expr: Expr) -> np.ndarray | None:
        """The owner of each position of a dimension; None where it is not spread. What a padding adds is at home."""
        found: np.ndarray | None = None
        for axis in axes_of(expr):
            if axis in self.axes:
                index = index_along(expr, axis, self.sizes)
                own = np.where(index >= 0, self.axes[axis][index], _NOBODY)
                found = own if found is None else np.where(own == _NOBODY, found, own)
        return None if found is None else np.where(found == _NOBODY, self.home, found)

    def spread_dim(self, dims: Sequence[Expr]) -> int | None:
        """The dimension of an activation along which it is spread, if any."""
        return next((dim for dim, expr in enumerate(dims) if any(axis in self.axes for axis in axes_of(expr))), None)


def without_conflicts(axes: Sequence[str], activations: Sequence[Sequence[Expr]]) -> list[str]:
    """Those of these axes that can be spread at once: of two that cross in an activation the first of them."""
    left = dict.fromkeys(axes)
    for dims in activations:
        crossing = _crossing(dims, left)
        for axis in crossing[1:]:
            if not any(_beside(expr, crossing[0], axis) for expr in dims):
                left.pop(axis, None)
    return list(left)


def _crossing(dims: Sequence[Expr], among: Mapping[str, None]) -> list[str]:
    met = {axis for expr in dims for axis in axes_of(expr)}
    return [axis for axis in among if axis in met]


def _beside(expr: Expr, one: str, other: str) -> bool:
    """Whether the axes stand one after the other in a dimension: no position is of both."""
    return any(
        isinstance(part, Concat) and {one, other} <= {axis for piece in part.parts for axis in axes_of(piece)}
        for part in _inside(expr)
    )


def _inside(expr: Expr) -> Iterator[Expr]:
    yield expr
    if not isinstance(expr, int | str):
        for part in expr.parts:
            yield from _inside(part)
