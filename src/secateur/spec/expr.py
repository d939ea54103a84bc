"""Dimension expressions: a dimension is an axis, a fixed size, a product (outer .. inner) or a concatenation of these.

`size_of` gives the size of a dimension for given axis sizes, `kept_of` the positions that stay in it when each axis
keeps some of its indices. Both are plain walks over the expression; nothing here knows a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

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
    if isinstance(value, dict):
        for kind, made in (("product", Product), ("concat", Concat)):
            parts = cast(dict[Any, Any], value).get(kind) if len(value) == 1 else None  # pyright: ignore[reportUnknownArgumentType]
            if isinstance(parts, list):
                listed = cast(list[Any], parts)
                return made(tuple(from_json(part) for part in listed))
    raise ValueError(f"not a dimension expression: {value!r}")


Kept = Mapping[str, np.ndarray]
"""Axis name -> kept indices: `(k,)`, or `(parent size, k)` for an axis that chooses its indices per index of its
parent. Axes that are not mentioned stay whole."""


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


def parents_needed(expr: Expr, kept: Kept, within: Mapping[str, str]) -> set[str]:
    """Parents that axes of this dimension choose their indices by and that stand in another dimension."""
    return _needed(expr, kept, within, frozenset())


def _needed(expr: Expr, kept: Kept, within: Mapping[str, str], outer: frozenset[str]) -> set[str]:
    if isinstance(expr, str):
        split_by_parent = expr in kept and kept[expr].ndim == 2 and within[expr] not in outer
        return {within[expr]} if split_by_parent else set()
    if isinstance(expr, int):
        return set()
    found: set[str] = set()
    for part in expr.parts:
        found |= _needed(part, kept, within, outer)
        if isinstance(expr, Product) and isinstance(part, str):
            outer = outer | {part}
    return found


def kept_given(expr: Expr, kept: Kept, sizes: Sizes, within: Mapping[str, str], parent: str, index: int) -> np.ndarray:
    """Kept positions of the dimension at one index of a parent that stands in another dimension."""
    return _positions(expr, kept, sizes, within, {parent: index})


def index_along(expr: Expr, axis: str, sizes: Sizes) -> np.ndarray:
    """For each position of the dimension the index of `axis` there, -1 where it does not occur."""
    if isinstance(expr, str):
        return np.arange(sizes[expr]) if expr == axis else np.full(sizes[expr], -1)
    if isinstance(expr, int):
        return np.full(expr, -1)
    pieces = [index_along(part, axis, sizes) for part in expr.parts]
    if isinstance(expr, Concat):
        return np.concatenate(pieces)
    found = np.full((1,), -1)
    for piece in pieces:
        found = np.maximum(found[:, None], piece[None, :]).reshape(-1)
    return found
