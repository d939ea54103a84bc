"""The gap before each kept word as a Golomb-Rice code: the quotient by 2**k in unary, the remainder in k bits.

After "Some practical universal noiseless coding techniques" (Rice, 1979). Quotients and remainders lie apart, all
quotients first: each is so many zero bits and a one bit, so that finding the ones decodes them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secateur.spec import StoreError
from secateur.store.packed.bits import Bytes, Integers, bytes_for, pack_bools, pack_numbers, unpack_numbers
from secateur.store.packed.encodings.encoding import Encoded, Layout, scatter
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words

MOST_BITS = 48


class Gaps:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:  # noqa: ARG002
        gaps = array.gaps
        width = min(_plausible(gaps), key=lambda width: int((gaps >> width).sum()) + width * len(gaps))
        ends = np.cumsum((gaps >> width) + 1) - 1
        quotients = np.zeros(ends[-1] + 1 if len(ends) else 0, np.bool_)
        quotients[ends] = True
        unary = pack_bools(quotients)
        remainders = pack_numbers(gaps & ((1 << width) - 1), width)
        parameters = {"bits": width, "unary_bytes": len(unary)}
        yield Encoded("gaps", array.values, np.concatenate([unary, remainders]), parameters)

    def sizes(self, layout: Layout) -> tuple[int, int]:
        width = layout.parameter("bits", 0, MOST_BITS)
        unary = layout.parameter("unary_bytes", 0, bytes_for(layout.words))
        return unary + bytes_for(width * layout.kept), layout.kept

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        width, unary = layout.parameters["bits"], layout.parameters["unary_bytes"]
        ends = np.flatnonzero(np.unpackbits(positions[:unary], bitorder="little").view(np.bool_))
        if len(ends) != layout.kept or (len(ends) and ends[-1] > layout.kept + (layout.words >> width)):
            raise StoreError(f"{len(ends)} gaps that are too many or too long, expected {layout.kept}")
        place = np.arange(layout.kept)
        index = np.cumsum(unpack_numbers(positions[unary:], layout.kept, width), dtype=np.int64)
        index += place
        index += (ends - place) << width  # all quotients so far: the bits before this one that are not ends
        if len(index) and (index.min() < 0 or index.max() >= layout.words):  # sums of forged numbers may run over
            raise StoreError(f"positions outside of an array of {layout.words} words")
        return scatter(layout, index, values)


def _plausible(gaps: Integers) -> range:
    """Widths around the best one for gaps as random positions have them: 2**k about ln 2 times the mean."""
    middle = int(np.log2(max(0.7 * float(gaps.mean()), 1))) if len(gaps) else 0
    return range(max(middle - 1, 0), min(middle + 2, MOST_BITS) + 1)
