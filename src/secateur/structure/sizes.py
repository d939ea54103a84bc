"""Which numbers in the user's calls of torch functions are sizes, and of which dimension.

`WATCHED` maps each torch function whose arguments hold sizes to an extractor. After the dimensions are known, the
extractor pairs each number with the dimension whose size it has to equal: `(number, node)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from secateur.structure.algebra import Node, concat
from secateur.structure.program import Call, Op, Ref

Pair = tuple[Any, Node]


class Dimensions(Protocol):
    """What extractors need to know."""

    def dims(self, tensor: int) -> Sequence[Node]:
        """Nodes along the dimensions of the tensor."""
        ...

    def pieces(self, op: Op) -> Sequence[Node]:
        """Parts that the operator took off or put on: before and after (padding), before, in and after (slices)."""
        ...


Extractor = Callable[[Call, Dimensions], Iterator[Pair]]


def _flat(args: Sequence[Any]) -> list[Any]:
    return list(args[0]) if len(args) == 1 and isinstance(args[0], list | tuple) else list(args)


def _result_sizes(first: int) -> Extractor:
    """Sizes, one per dimension of the result, from argument number `first` on."""

    def extract(call: Call, known: Dimensions) -> Iterator[Pair]:
        given = call.args[first:] or [call.kwargs.get("size", call.kwargs.get("shape", ()))]
        sizes = _flat(given)
        if isinstance(call.result, Ref) and all(isinstance(size, int) for size in sizes):
            yield from zip(sizes, known.dims(call.result.id), strict=False)

    return extract


def _fill_sizes(call: Call, known: Dimensions) -> Iterator[Pair]:
    sizes = call.args[0] if call.args else call.kwargs["size"]
    if not isinstance(sizes, Ref) and isinstance(call.result, Ref):
        yield from zip(sizes, known.dims(call.result.id), strict=False)


def _new_full(call: Call, known: Dimensions) -> Iterator[Pair]:
    yield from zip(call.args[1], known.dims(call.result.id), strict=False)


def _unflatten(call: Call, known: Dimensions) -> Iterator[Pair]:
    dim, sizes = _argument(call, 1, "dim"), _argument(call, 2, "sizes")
    result = known.dims(call.result.id)
    start = dim % (len(result) - len(sizes) + 1) if isinstance(dim, int) else 0
    yield from zip(sizes, result[start:], strict=False)


def _argument(call: Call, index: int, name: str, default: Any = None) -> Any:
    return call.args[index] if len(call.args) > index else call.kwargs.get(name, default)


def _sliced(call: Call, known: Dimensions) -> Iterator[Pair]:
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    slices = [item for item in index if isinstance(item, slice) and item != slice(None)]
    ops = [op for op in call.ops if op.target._schema.name == "aten::slice"]
    if len(slices) != len(ops):
        slices = [item for item in slices if not _covers(item)]
    for item, op in zip(slices, ops, strict=False):
        yield from _bounds(item.start, item.stop, known.pieces(op))


def _covers(item: slice) -> bool:
    return item.start in (None, 0) and item.stop is None and item.step in (None, 1)


def _bounds(start: Any, stop: Any, pieces: Sequence[Node]) -> Iterator[Pair]:
    if len(pieces) != 3:
        return
    before, inside, after = pieces
    if isinstance(start, int) and start > 0:
        yield start, before
    elif isinstance(start, int) and start < 0:
        yield -start, _together(inside, after)
    if isinstance(stop, int) and stop > 0 and after.size > 1:
        yield stop, _together(before, inside)
    elif isinstance(stop, int) and stop < 0:
        yield -stop, after


def _together(left: Node, right: Node) -> Node:
    if left.size == 1 and right.size == 1:
        return left
    return concat([node for node in (left, right) if node.size > 1] or [left])


def _narrow(call: Call, known: Dimensions) -> Iterator[Pair]:
    for op in call.ops:
        if op.target._schema.name == "aten::slice" and len(known.pieces(op)) == 3:
            before, inside, _ = known.pieces(op)
            start, length = _argument(call, 2, "start"), _argument(call, 3, "length")
            if start:
                yield start, before
            yield length, inside


def _split(call: Call, known: Dimensions) -> Iterator[Pair]:
    sizes = _argument(call, 1, "split_size_or_sections", _argument(call, 1, "split_size"))
    dim = _argument(call, 2, "dim", 0)
    nodes = [known.dims(ref.id)[dim] for ref in call.result]
    if isinstance(sizes, int):
        sizes = [sizes] * (len(nodes) - (nodes[-1].size != int(sizes)))
    yield from zip(sizes, nodes, strict=False)


class SameSize:
    """Stands where a number would: the dimension must stay as large as this one, because the code divides evenly."""

    def __init__(self, node: Node) -> None:
        self.node = node


def _chunk(call: Call, known: Dimensions) -> Iterator[Pair]:
    dim = _argument(call, 2, "dim", 0)
    nodes = [known.dims(ref.id)[dim] for ref in call.result]
    for node in nodes[1:]:
        yield SameSize(nodes[0]), node


def _pad(call: Call, known: Dimensions) -> Iterator[Pair]:
    amounts = _argument(call, 1, "pad")
    for op in call.ops:
        if op.target._schema.name == "aten::constant_pad_nd":
            yield from zip(amounts, known.pieces(op), strict=False)


def _groups(position: int) -> Extractor:
    def extract(call: Call, known: Dimensions) -> Iterator[Pair]:
        for op in call.ops:
            if known.pieces(op):
                yield _argument(call, position, "groups", 1), known.pieces(op)[0]

    return extract


def _group_norm(call: Call, known: Dimensions) -> Iterator[Pair]:
    for op in call.ops:
        if known.pieces(op):
            yield _argument(call, 1, "num_groups"), known.pieces(op)[0]


def _layer_norm(call: Call, known: Dimensions) -> Iterator[Pair]:
    shape = _argument(call, 1, "normalized_shape")
    sizes = shape if isinstance(shape, list | tuple) else [shape]
    yield from zip(sizes, known.dims(call.result.id)[-len(sizes) :], strict=True)


def _repeat(call: Call, known: Dimensions) -> Iterator[Pair]:
    counts = _flat(call.args[1:] or [call.kwargs.get("repeats", ())])
    for op in call.ops:
        yield from zip(counts, known.pieces(op), strict=False)


def _repeat_interleave(call: Call, known: Dimensions) -> Iterator[Pair]:
    count = _argument(call, 1, "repeats")
    for op in call.ops:
        if isinstance(count, int) and op.target._schema.name == "aten::expand":
            before, after = known.dims(op.args[0].id), known.dims(op.outputs[0])
            yield from (
                (count, new) for old, new in zip(before, after, strict=False) if old.size == 1 < new.size == count
            )


def _histc(call: Call, known: Dimensions) -> Iterator[Pair]:
    yield _argument(call, 1, "bins", 100), known.dims(call.result.id)[0]


def _bincount(call: Call, known: Dimensions) -> Iterator[Pair]:
    yield _argument(call, 2, "minlength", 0), known.dims(call.result.id)[0]


def _sizes_first(first: int, *functions: Any) -> dict[Any, Extractor]:
    return {function: _result_sizes(first) for function in functions}


WATCHED: dict[Any, Extractor] = {
    **_sizes_first(
        1,
        Tensor.view,
        Tensor.reshape,
        torch.reshape,
        Tensor.expand,
        Tensor.broadcast_to,
        torch.broadcast_to,
        Tensor.new_zeros,
        Tensor.new_ones,
        Tensor.new_empty,
    ),
    **_sizes_first(0, torch.zeros, torch.ones, torch.empty, torch.rand, torch.randn),
    torch.full: _fill_sizes,
    Tensor.new_full: _new_full,
    Tensor.unflatten: _unflatten,
    torch.unflatten: _unflatten,
    Tensor.__getitem__: _sliced,
    Tensor.narrow: _narrow,
    torch.narrow: _narrow,
    Tensor.split: _split,
    torch.split: _split,
    Tensor.split_with_sizes: _split,
    torch.functional.split: _split,
    Tensor.chunk: _chunk,
    torch.chunk: _chunk,
    F.pad: _pad,
    F.conv1d: _groups(6),
    F.conv2d: _groups(6),
    F.conv3d: _groups(6),
    F.conv_transpose1d: _groups(6),
    F.conv_transpose2d: _groups(6),
    F.conv_transpose3d: _groups(6),
    torch.channel_shuffle: _groups(1),
    torch.native_channel_shuffle: _groups(1),
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
    F.rms_norm: _layer_norm,
    torch.histc: _histc,
    Tensor.histc: _histc,
    torch.bincount: _bincount,
    Tensor.bincount: _bincount,
    Tensor.repeat: _repeat,
    Tensor.repeat_interleave: _repeat_interleave,
    torch.repeat_interleave: _repeat_interleave,
}

SCALED: frozenset[Any] = frozenset(
    (Tensor.mul, torch.mul, Tensor.__rmul__, Tensor.mul_, Tensor.div, torch.div, Tensor.__truediv__, Tensor.div_)
)
"""Functions by which code applies a scale that it computed from a size."""

SUMMED: frozenset[Any] = frozenset(
    (Tensor.add, torch.add, Tensor.add_, Tensor.sub, torch.sub, Tensor.__rsub__, Tensor.pow, torch.pow, Tensor.fill_)
)
"""Functions in which a size becomes a number that no weights can make up for."""
