"""Rectangular blocks of the matrix: a bit for each, and all words of those that are not wholly zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from secateur.spec import StoreError
from secateur.store.packed.bits import Bytes, bytes_for, pack_bools, unpack_bools
from secateur.store.packed.encodings.encoding import Encoded, Layout
from secateur.store.packed.found import Array
from secateur.store.packed.words import Words, matrix_shape

TRIED = ((1, 4), (1, 8), (1, 16), (4, 1), (8, 1), (16, 1), (4, 4), (8, 8), (16, 16), (32, 32))
"""Beside whole rows, whole columns and whole kernels."""
LEAST_FILLED = 0.9
"""Share of kept words in the blocks that are stored; with fewer a bitmask is smaller."""
LEAST_BESIDE = 0.25
"""Share of kept words with a kept neighbour that is there by more than chance; in blocks most have one."""
SAMPLE_ROWS = 64

Kind = TypeVar("Kind", bound=np.generic)


class Block:
    def encode(self, array: Array, *, entropy: bool) -> Iterator[Encoded]:  # noqa: ARG002
        sizes = _sizes(array)
        if sizes:
            yield _encoded(array, *min(sizes, key=lambda size: _bits(array, *size)))

    def sizes(self, layout: Layout) -> tuple[int, int]:
        rows, columns = matrix_shape(layout.shape)
        height = layout.parameter("rows", 1, max(rows, 1))
        width = layout.parameter("columns", 1, max(columns, 1))
        if rows % height or columns % width:
            raise StoreError(f"a matrix of {rows} x {columns} is no whole number of blocks of {height} x {width}")
        total = layout.words // (height * width)
        return bytes_for(total), height * width * layout.parameter("blocks", 0, total)

    def decode(self, layout: Layout, positions: Bytes, values: Words) -> Words:
        rows, columns = matrix_shape(layout.shape)
        height, width, blocks = (layout.parameters[name] for name in ("rows", "columns", "blocks"))
        kept = unpack_bools(positions, layout.words // (height * width))
        if int(np.count_nonzero(kept)) != blocks:
            raise StoreError(f"{np.count_nonzero(kept)} blocks, expected {blocks}")
        arranged = np.zeros((len(kept), height * width), values.dtype)
        arranged[kept] = values.reshape(-1, height * width)
        grid = arranged.reshape(rows // height, columns // width, height, width)
        return np.ascontiguousarray(grid.swapaxes(1, 2)).reshape(-1)


def _sizes(array: Array) -> list[tuple[int, int]]:
    """Blocks that divide the matrix, the well filled ones of them where there are any."""
    rows, columns = array.matrix
    if not array.words.size:
        return []
    offered = {(1, columns), (rows, 1), (1, array.inner), *TRIED}
    fitting = [size for size in offered if size != (1, 1) and not rows % size[0] and not columns % size[1]]
    return sorted(fitting or [(1, columns)])


def _blocks(flat: npt.NDArray[Kind], columns: int, height: int, width: int) -> npt.NDArray[Kind]:
    """(blocks, words of a block), row by row."""
    grid = flat.reshape(-1, height, columns // width, width)
    return np.ascontiguousarray(grid.swapaxes(1, 2)).reshape(-1, height * width)


def _bits(array: Array, height: int, width: int) -> int:
    blocks = _blocks(array.mask, array.matrix[1], height, width)
    return len(blocks) + 8 * array.words.itemsize * height * width * int(blocks.any(1).sum())


def _encoded(array: Array, height: int, width: int) -> Encoded:
    columns = array.matrix[1]
    kept = np.asarray(_blocks(array.mask, columns, height, width).any(axis=1))
    values = _blocks(array.words, columns, height, width)[kept].reshape(-1)
    parameters = {"rows": height, "columns": width, "blocks": int(kept.sum())}
    return Encoded("block", values, pack_bools(kept), parameters)


def well_filled(array: Array) -> bool:
    """Whether blocks are worth an attempt, by some rows from the middle."""
    rows, columns = array.matrix
    if len(array.shape) < 2 or not array.words.size or array.kept > LEAST_FILLED * array.words.size:
        return False
    height = min(rows, SAMPLE_ROWS)
    start = (rows - height) // 2 // height * height * columns
    sample = Array(array.words[start : start + height * columns], (height, *array.shape[1:]))
    mask = sample.mask.reshape(height, columns)
    beside, below = int((mask[:, 1:] & mask[:, :-1]).sum()), int((mask[1:] & mask[:-1]).sum())
    share = sample.kept / mask.size
    if max(beside, below) < (share + LEAST_BESIDE * (1 - share)) * sample.kept:
        return False
    return any(_filled(sample, *size) >= LEAST_FILLED for size in _sizes(sample))


def _filled(array: Array, height: int, width: int) -> float:
    any_kept = int(_blocks(array.mask, array.matrix[1], height, width).any(1).sum())
    return array.kept / (any_kept * height * width) if any_kept else 0.0
