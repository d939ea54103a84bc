"""Compressed sparse rows: where each row starts among the kept words, and the column of each.

Never the smallest; here because runtimes read it. Both are plain integers of the fewest whole bytes (1, 2, 4 or 8).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from secateur.spec import StoreError
from secateur.store.packed.bits import Bytes, Integers
from secateur.store.packed.encodings.encoding import Encoded, Layout, scatter
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words, matrix_shape, word_type


class Csr:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:  # noqa: ARG002
        starts, columns = rows_and_columns(array)
        row_type, column_type = _types(array.matrix[1], array.kept)
        positions = np.concatenate([starts.astype(row_type).view(np.uint8), columns.astype(column_type).view(np.uint8)])
        yield Encoded("csr", array.values, positions)

    def sizes(self, layout: Layout) -> tuple[int, int]:
        rows, columns = matrix_shape(layout.shape)
        row_type, column_type = _types(columns, layout.kept)
        return row_type.itemsize * (rows + 1) + column_type.itemsize * layout.kept, layout.kept

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        rows, width = matrix_shape(layout.shape)
        row_type, column_type = _types(width, layout.kept)
        cut = row_type.itemsize * (rows + 1)
        starts = positions[:cut].view(row_type).astype(np.int64)
        columns = positions[cut:].view(column_type)
        counts = np.diff(starts)
        if starts[0] != 0 or starts[-1] != layout.kept or bool((counts < 0).any()) or bool((columns >= width).any()):
            raise StoreError(f"rows or columns lie outside of a matrix of {rows} x {width}")
        index = np.repeat(np.arange(rows) * width, counts) + columns.astype(np.int64)
        if bool((index[1:] <= index[:-1]).any()):
            raise StoreError("columns do not ascend within a row")
        return scatter(layout, index, values)


def rows_and_columns(array: Array) -> tuple[Integers, Integers]:
    """Where each row starts among the kept words (rows + 1 numbers), and the columns of these."""
    rows, width = array.matrix
    starts = np.searchsorted(array.index, np.arange(rows + 1) * width)
    return starts, array.index - np.repeat(np.arange(rows) * width, np.diff(starts))


def _types(columns: int, kept: int) -> tuple[np.dtype[np.unsignedinteger], np.dtype[np.unsignedinteger]]:
    return _smallest_type(kept), _smallest_type(max(columns - 1, 0))


def _smallest_type(largest: int) -> np.dtype[np.unsignedinteger]:
    return word_type(next(size for size in (1, 2, 4, 8) if largest < 1 << (8 * size)))
