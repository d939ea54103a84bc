"""N:M: of every M neighbours at most N are kept, along the last dimension or across the input channels.

What is kept of a group is one of C(M, N) subsets, said by its rank; as many ranks share a byte as fit there, so that
2:4 takes 8 bits for 12 words, where a bitmask takes 12. A group with fewer kept words stores zeros to make up N.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations
from math import comb
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from secateur.spec import StoreError
from secateur.store.packed.bits import Bytes
from secateur.store.packed.encodings.encoding import Encoded, Layout
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words

LARGEST_M = 8
TRIED_M = (4, 8)
SAMPLE_GROUPS = 256
LEAST_FILLED = 0.9
"""Kept words over those that are stored; with fewer a bitmask is smaller."""

Kind = TypeVar("Kind", bound=np.generic)


class NOfM:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:  # noqa: ARG002
        for m, inner in _groupings(array):
            n = _most_kept(array.mask, m, inner)
            if n < m:
                yield _encoded(array, max(n, 1), m, inner)

    def sizes(self, layout: Layout) -> tuple[int, int]:
        m = layout.parameter("m", 2, LARGEST_M)
        n = layout.parameter("n", 1, m - 1)
        inner = layout.parameter("inner", 1, max(layout.words, 1))
        if layout.words % (m * inner):
            raise StoreError(f"{layout.words} words are no groups of {m} at steps of {inner}")
        groups = layout.words // m
        return -(-groups // _ranks_per_byte(n, m)), groups * n

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        n, m, inner = (layout.parameters[name] for name in ("n", "m", "inner"))
        groups, subsets = layout.words // m, _subsets(n, m)
        ranks = _split(positions, len(subsets), _ranks_per_byte(n, m))[:groups]
        if ranks.size and int(ranks.max()) >= len(subsets):
            raise StoreError(f"a group of {m} has no subset number {ranks.max()}")
        arranged = np.zeros((groups, m), values.dtype)
        arranged[_as_mask(subsets[ranks], m)] = values
        return np.ascontiguousarray(arranged.reshape(-1, inner, m).swapaxes(1, 2)).reshape(-1)


def _grouped(flat: npt.NDArray[Kind], m: int, inner: int) -> npt.NDArray[Kind]:
    """(groups, m): neighbours side by side."""
    return np.ascontiguousarray(flat.reshape(-1, m, inner).swapaxes(1, 2)).reshape(-1, m)


def _groupings(array: Array) -> list[tuple[int, int]]:
    """M, and the step from one member of a group to the next: along the last dimension, or the second one."""
    lengths = {1: array.shape[-1]} if array.words.size and len(array.shape) else {}
    if len(array.shape) > 1:
        lengths[array.inner] = array.shape[1]
    return [(m, inner) for inner, length in lengths.items() for m in TRIED_M if array.words.size and length % m == 0]


def _most_kept(mask: npt.NDArray[np.bool_], m: int, inner: int) -> int:
    """The most that any group keeps."""
    return int(_grouped(mask, m, inner).sum(1, dtype=np.uint8).max())


def nearly_full(array: Array) -> bool:
    """Whether N:M is worth an attempt: no group keeps many more than the mean, by the first ones."""
    share = array.kept / max(array.words.size, 1)
    few = {(m, inner): array.mask[: SAMPLE_GROUPS * m * inner] for m, inner in _groupings(array)}
    most = {grouping: _most_kept(mask, *grouping) for grouping, mask in few.items()}
    return any(n < m and share >= LEAST_FILLED * n / m for (m, _), n in most.items())


def _encoded(array: Array, n: int, m: int, inner: int) -> Encoded:
    patterns = np.packbits(_grouped(array.mask, m, inner), axis=1, bitorder="little").ravel()
    ranks = _covers(n, m)[patterns]
    chosen = _as_mask(_subsets(n, m)[ranks], m)
    values = _grouped(array.words, m, inner)[chosen]
    return Encoded("n:m", values, _joined(ranks, comb(m, n), _ranks_per_byte(n, m)), {"n": n, "m": m, "inner": inner})


def _as_mask(patterns: Bytes, m: int) -> npt.NDArray[np.bool_]:
    return np.unpackbits(patterns[:, None], axis=1, count=m, bitorder="little").view(np.bool_)


@cache
def _subsets(n: int, m: int) -> Bytes:
    """Every subset of n out of m as bits, in ascending order: its place is its rank."""
    return np.array(sorted(sum(1 << place for place in chosen) for chosen in combinations(range(m), n)), np.uint8)


@cache
def _covers(n: int, m: int) -> Bytes:
    """For every pattern of at most n bits the rank of the first subset that has them all."""
    subsets = _subsets(n, m)
    covers = (np.arange(1 << m)[:, None] & ~subsets[None, :].astype(np.int64)) == 0
    return covers.argmax(1).astype(np.uint8)


def _ranks_per_byte(n: int, m: int) -> int:
    return next(count for count in range(8, 0, -1) if comb(m, n) ** count <= 256)


def _joined(ranks: Bytes, base: int, per_byte: int) -> Bytes:
    """Digits of a number of that base, the first one lowest."""
    padded = np.zeros(-(-len(ranks) // per_byte) * per_byte, np.int64)
    padded[: len(ranks)] = ranks
    return (padded.reshape(-1, per_byte) @ base ** np.arange(per_byte)).astype(np.uint8)


def _split(joined: Bytes, base: int, per_byte: int) -> Bytes:
    digits = joined[:, None] // base ** np.arange(per_byte)
    digits[:, :-1] %= base  # what is left of the last digit is checked, not cut off
    return digits.astype(np.uint8).ravel()
