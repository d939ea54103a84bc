"""Scales that code computes from a size at run time, and the weights that can make up for them.

Attention divides by the square root of the head width. When that width shrinks, the code's own scale changes;
multiplying the rows that produce the queries by the inverse ratio gives the old scale back. The rows are found by
walking back from the scaled tensor through operators that pass a factor on, carrying row numbers through the recorded
views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch

from secateur.structure.algebra import Node
from secateur.structure.program import Call, Op, Program, Ref
from secateur.structure.resolve import grounded
from secateur.structure.sizeint import Origin, SizeFloat, SizeInt
from secateur.structure.sizes import SCALED

_DIVISIONS = (torch.Tensor.div, torch.div, torch.Tensor.__truediv__, torch.Tensor.div_)


@dataclass
class Scale:
    """A scale `size ** power` applied to a tensor, and the rows of the tensors that can take its change."""

    origin: Origin | Node
    power: float
    where: str
    rows: dict[str, tuple[tuple[int, int], ...] | None] = field(default_factory=dict)
    result: int = -1
    """The scaled tensor."""
    path: frozenset[int] = frozenset()
    """Tensors that were met on the way back to the rows."""


def find_scales(program: Program, dims: Callable[[int], tuple[Node, ...]]) -> list[Scale]:
    """Scales in the program that depend on a size; `rows` stays empty where no weights can take the change."""
    walk = _Walk(program)
    found: list[Scale] = []
    for call in program.calls:
        scale, tensor = _scale_of(call, dims)
        if scale is not None:
            scale.rows = walk.rows(tensor)
            scale.result = call.result.id if isinstance(call.result, Ref) else -1
            scale.path = frozenset(walk.met)
            found.append(scale)
    for scale in _at_odds(found):
        scale.rows = {}
    return found


def _at_odds(scales: list[Scale]) -> list[Scale]:
    """Scales of which each would need the same rows for itself: they stand in parallel branches and differ."""
    odd: list[Scale] = []
    for one, other in combinations(scales, 2):
        in_series = one.result in other.path or other.result in one.path
        alike = one.origin == other.origin and one.power == other.power
        if not in_series and not alike and one.rows.keys() & other.rows.keys() and _overlap(one, other):
            odd += [one, other]
    return odd


def _overlap(one: Scale, other: Scale) -> bool:
    for name in one.rows.keys() & other.rows.keys():
        mine, theirs = one.rows[name], other.rows[name]
        if mine is None or theirs is None:
            return True
        if any(a < d and c < b for a, b in mine for c, d in theirs):
            return True
    return False


def _scale_of(call: Call, dims: Callable[[int], tuple[Node, ...]]) -> tuple[Scale | None, int]:
    if call.function in SCALED:
        number = next((value for value in call.args if isinstance(value, SizeFloat | SizeInt)), None)
        tensor = next((value for value in call.args if isinstance(value, Ref)), None)
        if number is None or tensor is None:
            return None, -1
        sign = -1.0 if call.function in _DIVISIONS else 1.0
        power = number.power if isinstance(number, SizeFloat) else 1.0
        return Scale(grounded(number.origin, dims), sign * power, call.where), tensor.id
    if call.function is torch.nn.functional.scaled_dot_product_attention:
        query = call.args[0] if call.args else call.kwargs["query"]
        given = call.args[6] if len(call.args) > 6 else call.kwargs.get("scale")
        if given is None:
            return Scale(dims(query.id)[-1], -0.5, call.where), query.id
        if isinstance(given, SizeFloat):
            return Scale(grounded(given.origin, dims), given.power, call.where), query.id
    return None, -1


class _NoRows(Exception):
    """The walk met an operator that does not pass a factor on."""


_PASSING = frozenset(
    "aten::" + name
    for name in [
        "view",
        "_unsafe_view",
        "reshape",
        "transpose",
        "permute",
        "t",
        "squeeze",
        "unsqueeze",
        "expand",
        "clone",
        "contiguous",
        "slice",
        "select",
        "unbind",
        "split",
        "split_with_sizes",
        "cat",
        "neg",
        "alias",
        "detach",
        "_to_copy",
    ]
)


class _Walk:
    """Finds, for a tensor, the rows of parameters whose scaling scales it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.maker = {number: op for op in program.ops for number in op.outputs if number >= 0}

    def rows(self, tensor: int) -> dict[str, tuple[tuple[int, int], ...] | None]:
        """Row ranges by tensor name; empty when there are none."""
        self.producers: list[tuple[str, ...]] = []
        self.starts: list[int] = []
        self.total = 0
        self.taken: list[torch.Tensor] = []
        self.met: set[int] = set()
        try:
            labels = self._labels(tensor)
        except (_NoRows, LookupError, RuntimeError, TypeError):
            return {}
        taken = torch.unique(torch.cat([label.reshape(-1) for label in [*labels, *self.taken]]))
        found: dict[str, tuple[tuple[int, int], ...] | None] = {}
        ends = [*self.starts[1:], self.total]
        for names, start, end in zip(self.producers, self.starts, ends, strict=True):
            inside = (taken[(taken >= start) & (taken < end)] - start).tolist()
            for name in names:
                found[name] = _ranges(inside)
        return found

    def _labels(self, tensor: int) -> list[torch.Tensor]:
        self.met.add(tensor)
        op = self.maker.get(tensor)
        if op is None:
            raise _NoRows
        name = op.target._schema.name.removesuffix("_")
        if name in _PASSING:
            return self._through(op, tensor)
        if name in ("aten::mm", "aten::addmm"):
            return [self._linear(op, tensor)]
        if name == "aten::convolution":
            return [self._convolution(op, tensor)]
        if name in ("aten::mul", "aten::div"):
            return self._multiplied(op, tensor)
        if name == "aten::bmm":
            return [self._product(op, tensor)]
        if name in ("aten::add", "aten::sub"):
            shape = self.program.shapes[tensor]
            return [labels for value in op.args[:2] for labels in self._added(value.id, shape)]
        raise _NoRows

    def _added(self, tensor: int, shape: tuple[int, ...]) -> list[torch.Tensor]:
        """Of a term of a sum; a bias that is added apart from its product has rows itself."""
        if tensor in self.program.named and self.program.shapes[tensor] == shape[-1:]:
            return [self._produced([tensor], shape, -1)]
        return self._labels(tensor)

    def _through(self, op: Op, tensor: int) -> list[torch.Tensor]:
        if op.target._schema.name in ("aten::neg", "aten::_to_copy", "aten::clone"):
            return self._labels(op.args[0].id)
        if op.target._schema.name == "aten::cat":
            lists = [self._labels(ref.id) for ref in op.args[0]]
            count = max(len(labels) for labels in lists)
            return [torch.cat([labels[i % len(labels)] for labels in lists], *op.args[1:]) for i in range(count)]
        made: list[torch.Tensor] = []
        for labels in self._labels(op.args[0].id):
            output: Any = op.target(labels, *op.args[1:], **op.kwargs)
            made.append(output[op.outputs.index(tensor)] if isinstance(output, list | tuple) else output)
        return made

    def _product(self, op: Op, tensor: int) -> torch.Tensor:
        """Scaling either factor scales the product: all rows of the first that has any are taken."""
        for ref in op.args[:2]:
            try:
                self.taken += self._labels(ref.id)
            except _NoRows:
                continue
            return torch.full(self.program.shapes[tensor], -1)
        raise _NoRows

    def _linear(self, op: Op, tensor: int) -> torch.Tensor:
        addmm = op.target._schema.name == "aten::addmm"
        weight = self.maker.get(op.args[2 if addmm else 1].id)
        if weight is None or weight.target._schema.name != "aten::t":
            raise _NoRows
        names = [weight.args[0].id, *([op.args[0].id] if addmm else [])]
        return self._produced(names, self.program.shapes[tensor], -1)

    def _convolution(self, op: Op, tensor: int) -> torch.Tensor:
        if op.args[6]:
            raise _NoRows
        names = [op.args[1].id, *([op.args[2].id] if op.args[2] is not None else [])]
        return self._produced(names, self.program.shapes[tensor], 1)

    def _produced(self, tensors: list[int], shape: tuple[int, ...], dim: int) -> torch.Tensor:
        names = tuple(self.program.named[number] for number in tensors)
        count = shape[dim]
        if names in self.producers:
            start = self.starts[self.producers.index(names)]
        else:
            start = self.total
            self.producers.append(names)
            self.starts.append(start)
            self.total += count
        row = torch.arange(start, start + count, device="cpu")
        return row.reshape([count if index == dim % len(shape) else 1 for index in range(len(shape))]).expand(shape)

    def _multiplied(self, op: Op, tensor: int) -> list[torch.Tensor]:
        shape = self.program.shapes[tensor]
        for value in op.args[:2]:
            if (
                isinstance(value, Ref)
                and value.id in self.program.named
                and self.program.shapes[value.id] == shape[-1:]
            ):
                return [self._produced([value.id], shape, -1)]
        for value in op.args[:2]:
            if isinstance(value, Ref):
                try:
                    return [labels.expand(shape) for labels in self._labels(value.id)]
                except _NoRows:
                    continue
        raise _NoRows


def _ranges(rows: list[int]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for row in rows:
        if ranges and ranges[-1][1] == row:
            ranges[-1] = (ranges[-1][0], row + 1)
        else:
            ranges.append((row, row + 1))
    return tuple(ranges)
