"""Would the proof notice? Each test breaks one operator rule on purpose; some random network must then fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secateur.spec import SecateurError
from secateur.structure import trace_program
from secateur.structure.algebra import ONE, atom, concat, merge
from secateur.structure.program import Ref
from secateur.structure.rules import RULES
from secateur.structure.tracker import Tracker
from secateur.surgery import shrink, verify_traced
from secateur.testing.image_blocks import (
    ChannelShuffle,
    ConvNext,
    Depthwise,
    Einsum,
    Glu,
    Grouped,
    GroupedShuffle,
    Inception,
    Normalised,
    PaddedEnd,
    PixelShuffle,
    Residual,
    Sliced,
    SqueezeExcite,
    Standardised,
    Transposed,
    WeightNorm,
)
from secateur.testing.networks import single_block
from secateur.testing.plans import random_plan
from secateur.testing.sequence_blocks import (
    CrossAttention,
    GroupedQueryAttention,
    LinearAttention,
    Mlp,
    PackedAttention,
    SplitAttention,
    SwiGlu,
)


def _first_alone(t, op):
    """cat as if it were elementwise on its first tensor."""
    dims, dim = list(t.dims(op.args[0][0].id)), t.arg(op, 1, 0)
    dims[dim] = atom(t.shape(op.outputs[0])[dim])
    return dims


def _reversed_cat(t, op):
    dims, dim = list(t.dims(op.args[0][0].id)), t.arg(op, 1, 0)
    for ref in op.args[0][1:]:
        for index, node in enumerate(t.dims(ref.id)):
            if index != dim and node.size > 1:
                t.unify(dims[index], node, op)
    dims[dim] = concat([t.dims(ref.id)[dim] for ref in reversed(op.args[0])])
    return dims


def _bias_apart(t, op):
    """addmm whose bias is not lined up with the columns."""
    (rows, inner), (inner_too, columns) = t.of(op, 1), t.of(op, 2)
    t.unify(inner, inner_too, op)
    t.reduce(op, 1, [1], "zero")
    t.reduce(op, 2, [0], "zero")
    return [rows, columns]


def _undeclared_product(t, op):
    (rows, inner), (inner_too, columns) = t.of(op, 1), t.of(op, 2)
    t.unify(inner, inner_too, op)
    t.unify(t.of(op, 0)[0], columns, op)
    return [rows, columns]


def _unmoved(t, op):
    """permute and transpose as if they did nothing, where shapes allow."""
    dims, shape = t.of(op, 0), t.shape(op.outputs[0])
    return [atom(size) for size in shape] if [node.size for node in dims] != list(shape) else dims


def _all_apart(t, op):
    """Elementwise without lining anything up."""
    for value in op.args:
        if isinstance(value, Ref) and t.shape(value.id) == t.shape(op.outputs[0]):
            return [t.dims(value.id)] * len(op.outputs)
    return [[atom(size) for size in t.shape(op.outputs[0])]] * len(op.outputs)


def _norm_apart(t, op):
    """batch_norm whose parameters and statistics are not those of the channels."""
    return [t.of(op, 0), *([atom(size) for size in t.shape(number)] for number in op.outputs[1:] if number >= 0)]


def _plain(t, op):
    """A norm or softmax that declares no statistics."""
    return _without_reductions(op)(t, op)


def _without_reductions(op) -> Callable:
    original = _ORIGINAL[op.target._schema.name]

    def rule(t, op):
        kept = Tracker.reduce
        t.reduce = lambda *_, **__: None
        try:
            return original(t, op)
        finally:
            del t.reduce
            assert Tracker.reduce is kept

    return rule


def _shuffled_inside_out(t, op):
    """pixel_shuffle with the sub-pixels outermost."""
    *lead, channels, height, width = t.of(op, 0)
    factor = op.args[1]
    rows, columns, out = t.split(channels, [factor, factor, channels.size // factor**2], op)
    for node in (rows, columns):
        t.pin(node, "spatial", "sub-pixels", op)
    return [*lead, out, merge([height, rows]), merge([width, columns])]


def _unshuffled_inside_out(t, op):
    *lead, channels, height, width = t.of(op, 0)
    factor = op.args[1]
    high, rows = t.split(height, [height.size // factor, factor], op)
    wide, columns = t.split(width, [width.size // factor, factor], op)
    return [*lead, merge([rows, columns, channels]), high, wide]


def _merged_backwards(t, op):
    """Flattening with the dimensions the wrong way round."""
    dims = [node for node in t.of(op, 0) if node.size > 1]
    shape = t.shape(op.outputs[0])
    if len(dims) == 3 and len(shape) == 2 and shape[0] == dims[0].size:
        return [dims[0], merge([dims[2], dims[1]])]
    if len(dims) == 4 and len(shape) == 2 and shape[0] == dims[0].size:
        return [dims[0], merge([dims[3], dims[2], dims[1]])]
    if len(dims) == 4 and len(shape) == 3 and shape[:2] == (dims[0].size, dims[1].size):
        return [dims[0], dims[1], merge([dims[3], dims[2]])]
    return _ORIGINAL["aten::view"](t, op)


def _split_backwards(t, op):
    """Heads and their width mixed up."""
    shape = t.shape(op.outputs[0])
    dims = t.of(op, 0)
    if len(shape) == len(dims) + 1 and shape[:2] == tuple(node.size for node in dims[:2]):
        inner, outer = t.split(dims[2], [shape[3], shape[2]], op)
        return [dims[0], dims[1], outer, inner]
    return _ORIGINAL["aten::view"](t, op)


def _cut_backwards(t, op):
    """split whose pieces come in the wrong order."""
    dims, dim = t.of(op, 0), t.arg(op, 2, 0)
    pieces = t.cut(dims[dim], [t.shape(number)[dim] for number in op.outputs][::-1], op)[::-1]
    return [[piece if index == dim else node for index, node in enumerate(dims)] for piece in pieces]


def _sliced_from_start(t, op):
    """slice that forgets where it starts."""
    dims, dim = list(t.of(op, 0)), t.arg(op, 1, 0)
    size = t.shape(op.outputs[0])[dim]
    if size == dims[dim].size or size == 1:
        return _ORIGINAL["aten::slice"](t, op)
    inside, after = t.cut(dims[dim], [size, dims[dim].size - size], op)
    t.pieces_of(op, [ONE, inside, after])
    dims[dim] = inside
    return dims


def _halves_apart(t, op):
    """glu whose gates are not tied to what they gate."""
    dims, dim = list(t.of(op, 0)), t.arg(op, 1, -1)
    half = dims[dim].size // 2
    dims[dim] = t.cut(dims[dim], [half, half], op)[0]
    return dims


def _groups_inside(t, op):
    """Grouped convolution with the group as the inner factor."""
    x, weight, groups = t.of(op, 0), t.of(op, 1), op.args[8]
    if groups == 1 or op.args[6]:
        return _ORIGINAL["aten::convolution"](t, op)
    fixed = [t.fixed(size, "spatial", "", op) for size in t.shape(op.outputs[0])[2:]]
    per_group, group = t.split(x[1], [x[1].size // groups, groups], op)
    t.unify(weight[1], per_group, op)
    _, outer = t.split(weight[0], [weight[0].size // groups, groups], op)
    t.unify(outer, group, op)
    if op.args[2] is not None:
        t.unify(t.of(op, 2)[0], weight[0], op)
    t.pieces_of(op, [group])
    t.reduce(op, 0, [1], "zero")
    return [x[0], weight[0], *fixed]


def _inputs_apart(t, op):
    """Convolution whose weight is not tied to the channels that come in."""
    x, weight = t.of(op, 0), t.of(op, 1)
    if op.args[8] != 1 or op.args[6]:
        return _ORIGINAL["aten::convolution"](t, op)
    if op.args[2] is not None:
        t.unify(t.of(op, 2)[0], weight[0], op)
    t.reduce(op, 0, [1], "zero")
    return [x[0], weight[0], *(t.fixed(size, "spatial", "", op) for size in t.shape(op.outputs[0])[2:])]


def _padded_in_front(t, op):
    """Padding behind taken for padding before."""
    dims, amounts = list(t.of(op, 0)), op.args[1]
    added = max(amounts)
    index = len(dims) - 1 - amounts.index(added) // 2
    zeros = atom(added)
    t.pieces_of(op, [ONE] * amounts.index(added) + [zeros] + [ONE] * (len(amounts) - amounts.index(added) - 1))
    dims[index] = concat([zeros, dims[index]])
    return dims


def _shuffle_ignored(t, op):
    return t.of(op, 0)


_ORIGINAL = dict(RULES)
_NORMS = (Normalised, ConvNext, Mlp)

MUTATIONS = [
    ("cat", "first alone", _first_alone, (Inception,)),
    ("cat", "reversed", _reversed_cat, (Inception, Sliced)),
    ("addmm", "bias apart", _bias_apart, (SqueezeExcite, Mlp)),
    ("addmm", "undeclared", _undeclared_product, (SqueezeExcite, Mlp)),
    ("permute", "ignored", _unmoved, (PackedAttention, ConvNext)),
    ("transpose", "ignored", _unmoved, (PackedAttention, SplitAttention, GroupedQueryAttention)),
    ("pointwise", "apart", _all_apart, (Residual, SwiGlu)),
    ("_softmax", "undeclared", _plain, (LinearAttention, Normalised)),
    ("native_layer_norm", "undeclared", _plain, (ConvNext, Mlp)),
    ("native_group_norm", "undeclared", _plain, (Grouped, Transposed)),
    ("native_batch_norm", "undeclared", _plain, (Standardised,)),
    ("native_batch_norm", "apart", _norm_apart, (Residual, Depthwise)),
    ("_weight_norm_interface", "undeclared", _plain, (WeightNorm,)),
    ("mean", "undeclared", _plain, (Normalised, ConvNext)),
    ("var", "undeclared", _plain, (Normalised,)),
    ("max", "undeclared", _plain, (Normalised,)),
    ("linalg_vector_norm", "undeclared", _plain, (Normalised,)),
    ("convolution", "undeclared", _plain, (Residual,)),
    ("bmm", "undeclared", _plain, (Einsum, PackedAttention)),
    ("pixel_shuffle", "inside out", _shuffled_inside_out, (PixelShuffle,)),
    ("pixel_unshuffle", "inside out", _unshuffled_inside_out, (PixelShuffle,)),
    ("channel_shuffle", "ignored", _shuffle_ignored, (GroupedShuffle,)),
    ("view", "merged backwards", _merged_backwards, (Residual, PackedAttention, ChannelShuffle)),
    ("view", "split backwards", _split_backwards, (SplitAttention, GroupedQueryAttention, CrossAttention)),
    ("split", "backwards", _cut_backwards, (Glu, ChannelShuffle)),
    ("split_with_sizes", "backwards", _cut_backwards, (Sliced,)),
    ("slice", "from the start", _sliced_from_start, (Sliced,)),
    ("glu", "halves apart", _halves_apart, (Glu,)),
    ("convolution", "groups inside", _groups_inside, (Grouped,)),
    ("convolution", "inputs apart", _inputs_apart, (Residual, Depthwise)),
    ("constant_pad_nd", "in front", _padded_in_front, (PaddedEnd,)),
]


@pytest.mark.parametrize(("name", "_how", "broken", "blocks"), MUTATIONS, ids=[f"{m[0]} {m[1]}" for m in MUTATIONS])
def test_a_broken_rule_is_noticed(monkeypatch, name, _how, broken, blocks):
    assert not _failures(blocks, stop=False), "fails without being broken"
    for key in ("pointwise",) if name == "pointwise" else (f"aten::{name}", f"aten::_unsafe_{name}"):
        if key in RULES:
            monkeypatch.setitem(RULES, key, broken)
    assert _failures(blocks, stop=True), f"no network notices that the rule of {name} is broken"


def _failures(blocks, *, stop):
    found = []
    for seed in range(8 if len(blocks) > 1 else 20):
        for block in blocks:
            network = single_block(block, seed)
            try:
                traced = trace_program(network.model, network.inputs)
                plan = random_plan(traced.structure, seed, share=1.0)
                proof = verify_traced(network.model, shrink(network.model, plan), plan, network.inputs, traced)
            except (SecateurError, RuntimeError, ValueError, IndexError, KeyError) as error:
                found.append((network.name, error))
            else:
                if not proof.ok:
                    found.append((network.name, proof))
            if found and stop:
                return found
    return found
