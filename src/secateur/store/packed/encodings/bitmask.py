"""A bit for every word: whether it is kept."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secateur.store.packed.bits import Bytes, bytes_for, unpack_bools
from secateur.store.packed.encodings.encoding import Encoded, Layout, scatter
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words


class Bitmask:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:  # noqa: ARG002
        yield Encoded("bitmask", array.values, array.bits)

    def sizes(self, layout: Layout) -> tuple[int, int]:
        return bytes_for(layout.words), layout.kept

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        return scatter(layout, np.flatnonzero(unpack_bools(positions, layout.words)), values)
