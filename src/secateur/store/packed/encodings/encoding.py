"""What an encoding is: a way to say where the words of an array are that are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from secateur.spec import StoreError
from secateur.store.packed.bits import NO_BYTES, Bytes, Integers
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words

Parameters = Mapping[str, int]


@dataclass(frozen=True)
class Encoded:
    """An array as two streams, before they are compressed."""

    encoding: str
    values: Words
    positions: Bytes = field(default_factory=lambda: NO_BYTES)
    parameters: Parameters = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Layout:
    """What the manifest says about an array that is to be decoded; nothing of it is trusted."""

    shape: Sequence[int]
    words: int
    """Product of the shape."""
    kept: int
    """How many words are not zero; at most `words`."""
    parameters: Parameters

    def parameter(self, name: str, least: int, most: int) -> int:
        """A number of the encoding. Raises StoreError where it is missing or out of range."""
        value = self.parameters.get(name)
        if value is None or not least <= value <= most:
            raise StoreError(f"parameter {name!r} is {value}, expected {least} to {most}")
        return value


class Encoding(Protocol):
    """One way. `sizes` is asked before anything is read, `decode` after."""

    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:
        """Candidates, the smallest of which is taken; none where the array cannot be said so, or never should be.

        entropy: whether the streams are compressed afterwards.
        """
        ...

    def sizes(self, layout: Layout) -> tuple[int, int]:
        """Bytes of the positions, and how many words are stored. Raises StoreError for senseless parameters."""
        ...

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        """The array again. Raises StoreError where the positions contradict the manifest."""
        ...


def scatter(layout: Layout, index: Integers, values: Words) -> Words:
    """The values at these places, which ascend from 0 on; zeros elsewhere. Raises StoreError for places outside."""
    if len(index) != len(values):
        raise StoreError(f"positions of {len(index)} values, expected {len(values)}")
    if len(index) and index[-1] >= layout.words:
        raise StoreError(f"position {index[-1]} of an array of {layout.words} words")
    words = np.zeros(layout.words, values.dtype)
    words[index] = values
    return words
