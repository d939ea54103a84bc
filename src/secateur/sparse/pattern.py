"""Patterns: which single weights leave together, and within which groups a count is held.

Every pattern but N:M tiles the matrix of a weight, outputs by (inputs x kernel), with blocks that leave as a whole:

    element      1 x 1
    block:RxC    R outputs by C columns; what does not fill a block at the edges is a smaller block
    kernel       1 output by the places of one input's kernel
    row          1 output by all columns
    column       all outputs by 1 column (one input at one place of the kernel)

N:M keeps N of M consecutive inputs of each output and place of the kernel. Where M does not divide the inputs, the
last group has R < M of them and keeps N R / M, rounded up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from secateur.sparse.layout import Layout
from secateur.sparse.select import keep_n_of_m
from secateur.spec import SelectorError

Kind = Literal["element", "n:m", "block", "kernel", "row", "column"]
PLAIN = ("element", "kernel", "row", "column")
EXPECTED = "element, N:M such as 2:4, block:RxC such as block:4x1, kernel, row or column"


@dataclass(frozen=True)
class Pattern:
    """Which weights leave together."""

    kind: Kind
    sizes: tuple[int, int] = (1, 1)
    """N and M, or the rows and columns of a block."""

    def __post_init__(self) -> None:
        first, second = self.sizes
        if self.kind not in get_args(Kind):
            raise SelectorError(f"unknown pattern {self.kind!r}; expected {EXPECTED}")
        if self.kind == "n:m" and not 1 <= first < second:
            raise SelectorError(f"pattern {first}:{second}: of M weights N are kept, so 1 <= N < M must hold")
        if self.kind == "block" and min(first, second) < 1:
            raise SelectorError(f"pattern {self}: a block has at least one row and one column")

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """A pattern by its name; raises SelectorError for any other text, and for sizes that make no sense."""
        found = re.fullmatch(r"(?:block:(\d+)x(\d+))|(?:(\d+):(\d+))", text)
        if text in PLAIN:
            return cls(text)  # type: ignore[arg-type]
        if found is None:
            raise SelectorError(f"unknown pattern {text!r}; expected {EXPECTED}")
        rows, columns, kept, of = found.groups()
        return cls("n:m", (int(kept), int(of))) if kept else cls("block", (int(rows), int(columns)))

    @classmethod
    def means(cls, text: str) -> bool:
        """Whether the text is meant as a pattern, and not as a role of axes."""
        return text in PLAIN or ":" in text

    def __str__(self) -> str:
        first, second = self.sizes
        if self.kind == "n:m":
            return f"{first}:{second}"
        return f"block:{first}x{second}" if self.kind == "block" else self.kind

    @property
    def keep_per_group(self) -> tuple[int, int] | None:
        """(N, M) for N:M, else None."""
        return self.sizes if self.kind == "n:m" else None

    @property
    def leaves_single(self) -> bool:
        """Whether weights leave one by one, and not in blocks."""
        return self.kind in ("element", "n:m")

    def block(self, layout: Layout) -> tuple[int, int]:
        """Rows and columns of the blocks that leave as a whole."""
        return {
            "element": (1, 1),
            "n:m": (1, 1),
            "block": self.sizes,
            "kernel": (1, layout.kernel),
            "row": (1, layout.columns),
            "column": (layout.outputs, 1),
        }[self.kind]

    def unit_scores(self, scores: Tensor, layout: Layout) -> Tensor:
        """Mean score of the weights of each block, `(block rows, block columns)`; the scores of single weights as they
        are, as a matrix."""
        matrix = layout.matrix(scores)
        if self.block(layout) == (1, 1):
            return matrix
        return self._summed(matrix, layout) / self.unit_sizes(layout).to(matrix)

    def unit_sizes(self, layout: Layout) -> Tensor:
        """Weights in each block, `(block rows, block columns)`."""
        rows, columns = self.block(layout)
        return _lengths(layout.outputs, rows)[:, None] * _lengths(layout.columns, columns)[None, :]

    def spread(self, units: Tensor, layout: Layout) -> Tensor:
        """One flag per block becomes one per weight, in the weight's own shape."""
        rows, columns = self.block(layout)
        wide = units if columns == 1 else units.repeat_interleave(columns, dim=1)[:, : layout.columns]
        high = wide if rows == 1 else wide.repeat_interleave(rows, dim=0)[: layout.outputs]
        return layout.tensor(high).contiguous()

    def keep_in_groups(self, scores: Tensor, layout: Layout) -> Tensor:
        """The mask of an N:M pattern, of the weight's shape: True at the N highest scores of each group; of equal ones
        the earlier stays."""
        kept, size = self.sizes
        ordered = layout.matrix(scores).reshape(layout.outputs, layout.inputs, layout.kernel).transpose(1, 2)
        whole, tail = ordered.split([layout.inputs - layout.inputs % size, layout.inputs % size], dim=-1)
        groups = whole.reshape(*whole.shape[:-1], -1, size)
        parts = [keep_n_of_m(groups, kept).reshape(whole.shape)]
        if tail.shape[-1]:
            parts.append(keep_n_of_m(tail, -(-kept * tail.shape[-1] // size)))
        return layout.tensor(torch.cat(parts, dim=-1).transpose(1, 2)).contiguous()

    def _summed(self, matrix: Tensor, layout: Layout) -> Tensor:
        rows, columns = self.block(layout)
        padded = pad(matrix, (0, -layout.columns % columns, 0, -layout.outputs % rows))
        return padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).sum((1, 3))


def _lengths(total: int, length: int) -> Tensor:
    """How long the pieces are when `total` is cut into pieces of this length."""
    return torch.tensor([min(length, total - start) for start in range(0, total, length)])
