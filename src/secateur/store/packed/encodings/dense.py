"""Every word, zeros too."""

from __future__ import annotations

from collections.abc import Iterator

from secateur.store.packed.bits import Bytes
from secateur.store.packed.encodings.encoding import Encoded, Layout
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words


class Dense:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:  # noqa: ARG002
        yield Encoded("dense", array.words)

    def sizes(self, layout: Layout) -> tuple[int, int]:
        return 0, layout.words

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:  # noqa: ARG002
        return values
