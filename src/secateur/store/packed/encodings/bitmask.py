"""A bit for every word: whether it is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secateur.spec import StoreError
from secateur.store.packed.bits import Bytes, bytes_for, unpack_bools
from secateur.store.packed.encodings.encoding import Encoded, Layout
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words

CHUNK = 1 << 16
"""Words whose places fit a processor's cache."""


class Bitmask:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:  # noqa: ARG002
        yield Encoded("bitmask", array.values, array.bits)

    def sizes(self, layout: Layout) -> tuple[int, int]:
        return bytes_for(layout.words), layout.kept

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        mask = unpack_bools(positions, layout.words)
        found = int(np.count_nonzero(mask))
        if found != layout.kept:
            raise StoreError(f"{found} bits are set, expected {layout.kept}")
        words, place = np.zeros(layout.words, values.dtype), 0
        for start in range(0, layout.words, CHUNK):
            (index,) = mask[start : start + CHUNK].nonzero()
            words[start : start + CHUNK][index] = values[place : place + len(index)]
            place += len(index)
        return words
