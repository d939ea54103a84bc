"""The gap before each kept word, in codes of 4 to 9 bits; the largest code skips that many zeros and keeps nothing.

After "Deep Compression" (Han et al., 2016), section 2. There a filler also takes a zero among the values; here the
values hold none.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secateur.store.packed.bits import Bytes, Integers, bytes_for, pack_numbers, unpack_numbers
from secateur.store.packed.encodings.encoding import Encoded, Layout, scatter
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words

WIDTHS = range(4, 10)
BYTE = 8
"""The width that the compressor sees code by code."""


class Delta:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:
        width = BYTE if entropy else min(WIDTHS, key=lambda width: width * _code_count(array.gaps, width))
        codes = _codes(array.gaps, width)
        packed = codes.astype(np.uint8) if width == BYTE else pack_numbers(codes, width)
        yield Encoded("delta", array.values, packed, {"bits": width, "codes": len(codes)})

    def sizes(self, layout: Layout) -> tuple[int, int]:
        width = layout.parameter("bits", WIDTHS[0], WIDTHS[-1])
        return bytes_for(width * layout.parameter("codes", layout.kept, layout.words)), layout.kept

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        width, count = layout.parameters["bits"], layout.parameters["codes"]
        codes = positions if width == BYTE else unpack_numbers(positions, count, width)
        keeps = codes != (1 << width) - 1
        places = codes.astype(np.int64)
        places += keeps
        np.cumsum(places, out=places)
        places -= 1
        return scatter(layout, places if keeps.all() else places[keeps], values)


def _code_count(gaps: Integers, width: int) -> int:
    return len(gaps) + int((gaps // ((1 << width) - 1)).sum())


def _codes(gaps: Integers, width: int) -> Integers:
    filler = (1 << width) - 1
    fillers = gaps // filler
    if not fillers.any():
        return gaps
    ends = np.cumsum(fillers + 1) - 1
    codes = np.full(ends[-1] + 1, filler)
    codes[ends] = gaps - filler * fillers
    return codes
