"""What encodings look at: the words of an array, and where they are not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from secateur.store.packed.bits import Bytes, Integers, pack_bools
from secateur.store.packed.words import Words, matrix_shape

PIECES, PIECE_WORDS = 4, 1 << 15


@dataclass(frozen=True)
class Array:
    """Words in row-major order, and the shape that they have."""

    words: Words
    shape: Sequence[int]

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """True where a word is not zero."""
        return self.words != 0

    @cached_property
    def kept(self) -> int:
        """How many words are not zero."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def bits(self) -> Bytes:
        """The mask, a bit a word."""
        return pack_bools(self.mask)

    @cached_property
    def index(self) -> Integers:
        """Places of the kept words, ascending."""
        return np.flatnonzero(self.mask)

    @cached_property
    def gaps(self) -> Integers:
        """Zeros before each kept word."""
        gaps = np.diff(self.index, prepend=-1)
        gaps -= 1
        return gaps

    @cached_property
    def values(self) -> Words:
        """The kept words."""
        return self.words if self.kept == self.words.size else self.words[self.index]

    @cached_property
    def sample(self) -> Array:
        """Some pieces, spread over the array."""
        starts = np.linspace(0, self.words.size - PIECE_WORDS, PIECES).astype(int) // 8 * 8
        pieces = np.concatenate([self.words[start : start + PIECE_WORDS] for start in starts])
        return Array(pieces, (pieces.size,))

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns."""
        return matrix_shape(self.shape)

    @property
    def inner(self) -> int:
        """Words from one input channel to the next."""
        return prod(self.shape[2:])
