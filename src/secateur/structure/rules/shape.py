"""Views and copies that change only how dimensions are arranged."""

from __future__ import annotations

from math import prod

from secateur.structure.algebra import ONE, Misfit, Node, atom, concat, merge
from secateur.structure.program import Op
from secateur.structure.rules.table import Dims, rule
from secateur.structure.tracker import Tracker


@rule("aten::view", "aten::_unsafe_view", "aten::reshape", "aten::_reshape_alias", "aten::view_copy")
def view(t: Tracker, op: Op) -> Dims:
    if not isinstance(t.arg(op, 1, None), list | tuple):
        return t.of(op, 0)
    return _rearrange(t, op, [node for node in t.of(op, 0) if node.size > 1], t.shape(op.outputs[0]))


def _rearrange(t: Tracker, op: Op, into: list[Node], sizes: tuple[int, ...]) -> list[Node]:
    """Line the old dimensions up with the new sizes and, run by run of equal products, merge and split."""
    out: list[Node] = []
    position = 0
    while position < len(sizes):
        if sizes[position] == 1 or not into:
            out.append(ONE if sizes[position] == 1 else t.fixed(sizes[position], "empty", "an empty tensor", op))
            position += 1
            continue
        old, new = [into.pop(0)], [sizes[position]]
        position += 1
        while (have := prod(node.size for node in old)) != (want := prod(new)):
            if have < want:
                if not into:
                    break
                old.append(into.pop(0))
            elif position < len(sizes):
                new.append(sizes[position])
                position += 1
            else:
                break
        out.extend(_split_run(t, op, old, new))
    return out


def _split_run(t: Tracker, op: Op, old: list[Node], new: list[int]) -> list[Node]:
    if len(old) == len(new) == 1:
        return old
    merged = merge(old)
    return [merged] if len(new) == 1 else t.split(merged, new, op)


@rule("aten::as_strided")
def as_strided(t: Tracker, op: Op) -> Dims:
    """Only where it sets other strides for the same dimensions; any other use raises Misfit."""
    if t.shape(op.outputs[0]) != tuple(node.size for node in t.of(op, 0)):
        raise Misfit("strides are set by hand")
    return t.of(op, 0)


@rule("aten::transpose")
def transpose(t: Tracker, op: Op) -> Dims:
    dims = list(t.of(op, 0))
    if dims:
        a, b = op.args[1], op.args[2]
        dims[a], dims[b] = dims[b], dims[a]
    return dims


@rule("aten::t", "aten::numpy_T")
def t_(t: Tracker, op: Op) -> Dims:
    return list(reversed(t.of(op, 0)))


@rule("aten::permute")
def permute(t: Tracker, op: Op) -> Dims:
    dims = t.of(op, 0)
    return [dims[index] for index in op.args[1]]


@rule("aten::squeeze")
def squeeze(t: Tracker, op: Op) -> Dims:
    dims = t.of(op, 0)
    chosen = t.arg(op, 1, None)
    which = range(len(dims)) if chosen is None else [chosen] if isinstance(chosen, int) else chosen
    gone = {index % max(1, len(dims)) for index in which}
    return [node for index, node in enumerate(dims) if index not in gone or node.size != 1]


@rule("aten::unsqueeze")
def unsqueeze(t: Tracker, op: Op) -> Dims:
    dims = list(t.of(op, 0))
    dims.insert(op.args[1] % (len(dims) + 1), ONE)
    return dims


@rule("aten::expand", "aten::broadcast_to")
def expand(t: Tracker, op: Op) -> Dims:
    dims, shape = t.of(op, 0), t.shape(op.outputs[0])
    lead = len(shape) - len(dims)
    padded = [ONE] * lead + list(dims)
    return [node if node.size == size else atom(size) for node, size in zip(padded, shape, strict=True)]


@rule("aten::repeat")
def repeat(t: Tracker, op: Op) -> Dims:
    counts = op.args[1]
    dims = [ONE] * (len(counts) - len(t.of(op, 0))) + list(t.of(op, 0))
    copies = [atom(int(count)) for count in counts]
    t.pieces_of(op, copies)
    return [merge([copy, node]) for copy, node in zip(copies, dims, strict=True)]


@rule("aten::cat", "aten::concat")
def cat(t: Tracker, op: Op) -> Dims:
    tensors = [t.dims(ref.id) for ref in op.args[0] if t.shape(ref.id) != (0,)]
    dim = t.arg(op, 1, 0) % len(tensors[0])
    out = list(tensors[0])
    for dims in tensors[1:]:
        for index, node in enumerate(dims):
            if index != dim:
                _line_up(t, op, out, index, node)
    out[dim] = concat([dims[dim] for dims in tensors])
    return out


def _line_up(t: Tracker, op: Op, out: list[Node], index: int, node: Node) -> None:
    if out[index].size == 1:
        out[index] = node
    elif node.size > 1:
        t.unify(out[index], node, op)


@rule("aten::stack")
def stack(t: Tracker, op: Op) -> Dims:
    tensors = [t.dims(ref.id) for ref in op.args[0]]
    out = list(tensors[0])
    for dims in tensors[1:]:
        for index, node in enumerate(dims):
            _line_up(t, op, out, index, node)
    dim = t.arg(op, 1, 0) % (len(out) + 1)
    out.insert(dim, t.fixed(len(tensors), "indexed", "entries are told apart by position", op))
    return out


@rule("aten::slice")
def slice_(t: Tracker, op: Op) -> Dims:
    dims = list(t.of(op, 0))
    dim = t.arg(op, 1, 0)
    size = dims[dim].size
    start, stop, step = _bounds(t.arg(op, 2, None), t.arg(op, 3, None), t.arg(op, 4, 1), size)
    if stop <= start:
        return _emptied(t, op, dims, dim)
    if size == 1 or (start == 0 and stop == size and step == 1):
        return dims
    if step == 1:
        before, inside, after = t.cut(dims[dim], [start, stop - start, size - stop], op)
        t.pieces_of(op, [before, inside, after])
        dims[dim] = inside
    else:
        dims[dim] = _strided(t, op, dims[dim], start, step)
    return dims


def _bounds(start: int | None, stop: int | None, step: int, size: int) -> tuple[int, int, int]:
    return slice(start, stop, step).indices(size)


def _emptied(t: Tracker, op: Op, dims: list[Node], dim: int) -> list[Node]:
    dims[dim] = t.fixed(t.shape(op.outputs[0])[dim], "empty", "an empty slice", op)
    return dims


def _strided(t: Tracker, op: Op, node: Node, start: int, step: int) -> Node:
    """Every `step`-th entry: the outer factor of `(size / step) x step`, at one position of the inner one."""
    out_size = len(range(start, node.size, step))
    if node.size % step == 0 and start < step:
        outer, inner = t.split(node, [node.size // step, step], op)
        t.pin(inner, "indexed", f"every {step}th entry is picked", op)
        return outer
    t.pin(node, "indexed", f"every {step}th entry is picked", op)
    return t.fixed(out_size, "indexed", f"every {step}th entry is picked", op)


@rule("aten::select")
def select(t: Tracker, op: Op) -> Dims:
    dims = list(t.of(op, 0))
    node = dims.pop(op.args[1])
    t.pin(node, "indexed", "one entry is picked by position", op)
    return dims


@rule("aten::unbind")
def unbind(t: Tracker, op: Op) -> list[Dims]:
    dims = list(t.of(op, 0))
    t.pin(dims.pop(t.arg(op, 1, 0)), "indexed", "entries are told apart by position", op)
    return [dims for _ in op.outputs]


@rule("aten::split", "aten::split_with_sizes", "aten::unsafe_split", "aten::unsafe_split_with_sizes", "aten::chunk")
def split(t: Tracker, op: Op) -> list[Dims]:
    dims, dim = t.of(op, 0), t.arg(op, 2, 0)
    pieces = t.cut(dims[dim], [t.shape(number)[dim] for number in op.outputs], op)
    made: list[Dims] = []
    for piece in pieces:
        out = list(dims)
        out[dim] = piece
        made.append(out)
    return made


@rule("aten::constant_pad_nd")
def pad(t: Tracker, op: Op) -> Dims:
    dims, amounts = list(t.of(op, 0)), op.args[1]
    pieces: list[Node] = []
    for pair in range(len(amounts) // 2):
        dim = len(dims) - 1 - pair
        before, after = int(amounts[2 * pair]), int(amounts[2 * pair + 1])
        if min(before, after) < 0:
            t.pin(dims[dim], "spatial", "a dimension is cropped", op)
            dims[dim] = t.fixed(t.shape(op.outputs[0])[dim], "spatial", "a dimension is cropped", op)
            pieces += [ONE, ONE]
            continue
        ends = [_zeros(before), _zeros(after)]
        pieces += ends
        if before or after:
            held = [end for end, amount in zip(ends, (before, after), strict=True) if amount]
            dims[dim] = concat([*held[: bool(before)], dims[dim], *held[bool(before) :]])
    t.pieces_of(op, pieces)
    return dims


def _zeros(amount: int) -> Node:
    return Node(amount) if amount > 1 else ONE


@rule("aten::flip", "aten::roll", "aten::tril", "aten::triu")
def reorder(t: Tracker, op: Op) -> Dims:
    """Positions move within a dimension, so its entries can no longer be told apart by index."""
    dims = list(t.of(op, 0))
    which = range(len(dims) - 2, len(dims)) if "tri" in op.target._schema.name else _moved(op)
    for index in which:
        node = dims[index]
        if node.size > 1:
            t.pin(node, "reordered", "entries are moved by position", op)
            dims[index] = t.fixed(node.size, "reordered", "entries are moved by position", op)
    return dims


def _moved(op: Op) -> list[int]:
    dims = op.args[-1] if len(op.args) > 1 else []
    return [dims] if isinstance(dims, int) else list(dims)


@rule("aten::unfold")
def unfold(t: Tracker, op: Op) -> Dims:
    dims, shape = list(t.of(op, 0)), t.shape(op.outputs[0])
    dim = op.args[1] % len(dims)
    t.pin(dims[dim], "spatial", "windows are taken along this dimension", op)
    dims[dim] = t.fixed(shape[dim], "spatial", "windows along a dimension", op)
    return [*dims, t.fixed(shape[-1], "spatial", "entries of a window", op)]


@rule("aten::pixel_shuffle")
def pixel_shuffle(t: Tracker, op: Op) -> Dims:
    *lead, channels, height, width = t.of(op, 0)
    factor = op.args[1]
    out, rows, columns = t.split(channels, [channels.size // factor**2, factor, factor], op)
    for node in (rows, columns):
        t.pin(node, "spatial", "sub-pixels", op)
    return [*lead, out, merge([height, rows]), merge([width, columns])]


@rule("aten::pixel_unshuffle")
def pixel_unshuffle(t: Tracker, op: Op) -> Dims:
    *lead, channels, height, width = t.of(op, 0)
    factor = op.args[1]
    high, rows = t.split(height, [height.size // factor, factor], op)
    wide, columns = t.split(width, [width.size // factor, factor], op)
    return [*lead, merge([channels, rows, columns]), high, wide]


@rule("aten::channel_shuffle", "aten::native_channel_shuffle")
def channel_shuffle(t: Tracker, op: Op) -> Dims:
    batch, channels, *space = t.of(op, 0)
    group, inner = t.split(channels, [op.args[1], channels.size // op.args[1]], op)
    t.pieces_of(op, [group])
    return [batch, merge([inner, group]), *space]
