"""Dimension expressions: a dimension is an axis, a fixed size, a product (outer .. inner) or a concatenation of these.

`size_of` gives the size of a dimension for given axis sizes, `kept_of` the positions that stay in it when each axis keeps
some of its indices. Both are plain walks over the expression; nothing here knows a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Product:
    """A dimension whose position is a mixed-radix number over the parts, outermost first."""

    parts: tuple[Expr, ...]


@dataclass(frozen=True)
class Concat:
    """A dimension that is its parts, one after the other."""

    parts: tuple[Expr, ...]


Expr = int | str | Product | Concat
"""An `int` is a size that never changes, a `str` the name of an axis."""

Sizes = Mapping[str, int]


def size_of(expr: Expr, sizes: Sizes) -> int:
    """Number of positions in the dimension when the axes have these sizes."""
    if isinstance(expr, int):
        return expr
    if isinstance(expr, str):
        return sizes[expr]
    if isinstance(expr, Concat):
        return sum(size_of(part, sizes) for part in expr.parts)
    total = 1
    for part in expr.parts:
        total *= size_of(part, sizes)
    return total


def axes_of(expr: Expr) -> Iterator[str]:
    """Names of the axes in the expression, with repetition."""
    if isinstance(expr, str):
        yield expr
    elif isinstance(expr, Product | Concat):
        for part in expr.parts:
            yield from axes_of(part)


def to_json(expr: Expr) -> Any:
    """The expression as JSON: a number, a name, or one of `{"product": [...]}`, `{"concat": [...]}`."""
    if isinstance(expr, Product):
        return {"product": [to_json(part) for part in expr.parts]}
    if isinstance(expr, Concat):
        return {"concat": [to_json(part) for part in expr.parts]}
    return expr


def from_json(value: Any) -> Expr:
    """Inverse of `to_json`; raises ValueError on anything else."""
    if isinstance(value, bool):
        raise ValueError(f"not a dimension expression: {value!r}")
    if isinstance(value, int | str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        kind, parts = next(iter(value.items()))
        if kind in ("product", "concat") and isinstance(parts, list):
            made = tuple(from_json(part) for part in parts)
            return Product(made) if kind == "product" else Concat(made)
    raise ValueError(f"not a dimension expression: {value!r}")


Kept = Mapping[str, np.ndarray]
"""Axis name -> kept indices: `(k,)`, or `(parent size, k)` for an axis that chooses its indices per index of its parent.
Axes that are not mentioned stay whole."""


def kept_of(expr: Expr, kept: Kept, sizes: Sizes, within: Mapping[str, str]) -> np.ndarray | None:
    """Kept positions of the dimension in ascending order of the original, or None when all stay.

    `within` names the parent of each axis that chooses its indices per parent index; the parent must be an outer factor
    of the same product (where it is not, the caller indexes the two dimensions jointly).
    """
    if not any(axis in kept for axis in axes_of(expr)):
        return None
    return _positions(expr, kept, sizes, within, {})


def _positions(expr: Expr, kept: Kept, sizes: Sizes, within: Mapping[str, str], outer: dict[str, int]) -> np.ndarray:
    if isinstance(expr, int):
        return np.arange(expr)
    if isinstance(expr, str):
        indices = kept.get(expr)
        if indices is None:
            return np.arange(sizes[expr])
        return indices[outer[within[expr]]] if indices.ndim == 2 else indices
    if isinstance(expr, Concat):
        pieces: list[np.ndarray] = []
        start = 0
        for part in expr.parts:
            pieces.append(_positions(part, kept, sizes, within, outer) + start)
            start += size_of(part, sizes)
        return np.concatenate(pieces)
    return _product_positions(expr, kept, sizes, within, outer)


def _product_positions(
    expr: Product, kept: Kept, sizes: Sizes, within: Mapping[str, str], outer: dict[str, int]
) -> np.ndarray:
    head, rest = expr.parts[0], expr.parts[1:]
    if not rest:
        return _positions(head, kept, sizes, within, outer)
    tail = rest[0] if len(rest) == 1 else Product(rest)
    stride = size_of(tail, sizes)
    heads = _positions(head, kept, sizes, within, outer)
    if isinstance(head, str) and any(within.get(axis) == head and axis in kept for axis in axes_of(tail)):
        rows = [i * stride + _positions(tail, kept, sizes, within, {**outer, head: int(i)}) for i in heads]
        return np.concatenate(rows) if rows else np.empty(0, dtype=np.int64)
    return (heads[:, None] * stride + _positions(tail, kept, sizes, within, outer)[None, :]).reshape(-1)
