"""The smallest of the encodings, by the bytes that they come to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2

from secateur.store.packed.bits import Bytes
from secateur.store.packed.encodings import ENCODINGS, Encoded
from secateur.store.packed.encodings.block import well_filled
from secateur.store.packed.encodings.n_of_m import nearly_full
from secateur.store.packed.found import Array
from secateur.store.packed.streams import LEVEL, TEXT_LEVEL, Stored, store

FEW_WORDS, MANY_WORDS = 1 << 12, 1 << 20
"""Of so few words everything is tried; of so many a sample tells what is."""
FEW_BYTES, STRUCTURED = 1 << 16, 0.9
"""So few bytes, and so much less than random positions take, are worth the slowest level."""
OWN_VALUES = ("dense", "n:m", "block")
"""Encodings that store more than the kept words, or in another order."""
NEARLY_ALL, NEARLY_ALL_OF_MANY = 0.97, 0.85
"""Of so large a share of words, and of many ones, to leave out the rest saves little."""
WORTH, WORTH_HOLES = 0.005, 0.04
"""So small a share of the bytes is not worth a slower encoding of many words; nor one that leaves out few words, which
takes twice as long to read."""


@dataclass(frozen=True)
class Choice:
    """An array, encoded and compressed."""

    encoded: Encoded
    positions: Stored
    values: Stored

    @property
    def size(self) -> int:
        return self.positions.size + self.values.size


def smallest(array: Array, *, encoding: str = "auto", entropy: bool = True, level: int = LEVEL) -> Choice:
    """The smallest way to store the array; with one named, that one wherever the array can be said so."""
    names = [encoding] if encoding != "auto" else _promising(array, entropy=entropy, level=level)
    choice = _smallest_of(array, names, entropy=entropy, level=level)
    return choice or smallest(array, entropy=entropy, level=level)


def _promising(array: Array, *, entropy: bool, level: int) -> list[str]:
    """Encodings that may be the smallest: of those that say single words, of many the fastest to read that is about the
    smallest on a sample, and those that say groups where there are any. CSR never is."""
    names = list(_by_share(array, entropy=entropy))
    if len(names) > 1 and array.words.size >= MANY_WORDS:
        sizes = {name: _size_on(array.sample, name, entropy=entropy, level=level) for name in names}
        few_holes = array.kept > NEARLY_ALL_OF_MANY * array.words.size
        worth = {name: WORTH_HOLES if name == "dense" and few_holes else WORTH for name in names}
        names = [next(name for name in names if sizes[name] <= (1 + worth[name]) * min(sizes.values()))]
    if 0 < array.kept < array.words.size:
        names += ["n:m"] * nearly_full(array) + ["block"] * well_filled(array)
    return names


def _by_share(array: Array, *, entropy: bool) -> Iterator[str]:
    """The fastest to read first."""
    share = array.kept / array.words.size if array.words.size else 1.0
    few, many = array.words.size <= FEW_WORDS, array.words.size >= MANY_WORDS
    if (
        few
        or share > (NEARLY_ALL_OF_MANY if many else NEARLY_ALL)
        or (entropy and array.words.itemsize == 1 and share > 0.4)
    ):
        yield "dense"
    if share < 1:
        if few or share > 0.02:
            yield "bitmask"
        if few or share < 0.25:
            yield "delta"
        if few or share < 0.4:
            yield "gaps"


def _size_on(sample: Array, name: str, *, entropy: bool, level: int) -> int:
    choice = _smallest_of(sample, [name], entropy=entropy, level=level)
    return 0 if choice is None else choice.size


def _smallest_of(array: Array, names: list[str], *, entropy: bool, level: int) -> Choice | None:
    shared: Stored | None = None
    best: Choice | None = None
    for name in names:
        for encoded in ENCODINGS[name].encode(array, entropy=entropy):
            positions = _stored_positions(array, encoded.positions, entropy=entropy)
            if best is not None and positions.size >= best.size:
                continue
            if name in OWN_VALUES:
                values = store(encoded.values, entropy=entropy, level=level)
            else:  # compressed once, however many encodings store the kept words
                values = shared = shared or store(encoded.values, entropy=entropy, level=level)
            choice = Choice(encoded, positions, values)
            if best is None or choice.size < best.size:
                best = choice
    return best


def _stored_positions(array: Array, positions: Bytes, *, entropy: bool) -> Stored:
    """Positions that take much less than random ones hold patterns, of which the slowest level finds more."""
    stored = store(positions, entropy=entropy)
    if entropy and positions.size <= FEW_BYTES and stored.size < STRUCTURED * _random_bytes(array):
        return min(stored, store(positions, level=TEXT_LEVEL), key=lambda made: made.size)
    return stored


def _random_bytes(array: Array) -> float:
    """H(p) n bits: what the positions come to at best where they are random."""
    share = array.kept / max(array.words.size, 1)
    if share in (0, 1):
        return 0.0
    return -array.words.size * (share * log2(share) + (1 - share) * log2(1 - share)) / 8
