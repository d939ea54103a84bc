"""Attributes of `torch.nn` modules that hold sizes, and the dimensions they follow."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.nn.functional import multi_head_attention_forward

from secateur.structure.algebra import Node, factors, merge, parts
from secateur.structure.clone import named_tensors
from secateur.structure.program import Call, Op, Program, Ref
from secateur.structure.rescale import Scale
from secateur.structure.resolve import Equation, Resolver
from secateur.structure.tracker import Tracker

_FROM_PARAMETERS: tuple[tuple[type[nn.Module], str, str, int], ...] = (
    (nn.Linear, "in_features", "weight", 1),
    (nn.Linear, "out_features", "weight", 0),
    (nn.Bilinear, "out_features", "weight", 0),
    (nn.Bilinear, "in1_features", "weight", 1),
    (nn.Bilinear, "in2_features", "weight", 2),
    (nn.Embedding, "num_embeddings", "weight", 0),
    (nn.Embedding, "embedding_dim", "weight", 1),
    (nn.EmbeddingBag, "embedding_dim", "weight", 1),
    (nn.modules.batchnorm._NormBase, "num_features", "running_mean", 0),
    (nn.modules.batchnorm._NormBase, "num_features", "weight", 0),
    (nn.GroupNorm, "num_channels", "weight", 0),
    (nn.PReLU, "num_parameters", "weight", 0),
    (nn.RNNBase, "hidden_size", "weight_hh_l0", 1),
    (nn.RNNBase, "input_size", "weight_ih_l0", 1),
    (nn.RNNBase, "proj_size", "weight_hr_l0", 0),
    (nn.RNNCellBase, "hidden_size", "weight_hh", 1),
    (nn.RNNCellBase, "input_size", "weight_ih", 1),
)
"""(class, attribute, parameter or buffer, its dimension)."""


def bind_modules(model: nn.Module, tracker: Tracker, resolver: Resolver) -> Iterator[Scale]:
    """Tell the resolver what the attributes of `torch.nn` modules hold; yields the scales that they compute."""
    names = {id(found.tensor): found.name for found in named_tensors(model)}

    def dims_of(module: nn.Module, name: str) -> tuple[Node, ...] | None:
        tensor = getattr(module, name, None)
        return tracker.named.get(names.get(id(tensor), "")) if tensor is not None else None

    for path, module in model.named_modules():
        for kind, attribute, parameter, dim in _FROM_PARAMETERS:
            if isinstance(module, kind) and (dims := dims_of(module, parameter)) is not None and len(dims) > dim:
                resolver.bind(path, attribute, dims[dim])
        if isinstance(module, nn.MultiheadAttention):
            yield from _bind_attention(path, module, dims_of(module, "in_proj_weight"), tracker, resolver)


def _bind_attention(
    path: str, module: nn.MultiheadAttention, packed: tuple[Node, ...] | None, tracker: Tracker, resolver: Resolver
) -> Iterator[Scale]:
    """`nn.MultiheadAttention` computes the head width from the width of the query: embed_dim == heads * head width."""
    prefix = f"{path}." if path else ""
    apart = [tracker.named.get(f"{prefix}{name}_proj_weight") for name in "qkv"]
    embed = packed[1] if packed is not None else tracker.named[f"{prefix}q_proj_weight"][1]
    rows = _unpacked(packed[0], embed.size) if packed is not None else [dims[0] for dims in apart if dims is not None]
    if not all(_bind_heads(path, module, node, embed, resolver) for node in rows):
        return  # its forward did not run
    resolver.bind(path, "embed_dim", embed)
    for attribute, dims in (("kdim", apart[1]), ("vdim", apart[2])):
        resolver.bind(path, attribute, dims[1] if dims is not None else embed)
    scale = Scale(merge(_heads_and_width(rows[0], module.num_heads)[1]), -0.5, path)
    query = ((0, embed.size),)
    if packed is not None:
        scale.rows[f"{prefix}in_proj_weight"] = query
    else:
        scale.rows[f"{prefix}q_proj_weight"] = None
    if module.in_proj_bias is not None:
        scale.rows[f"{prefix}in_proj_bias"] = query
    yield scale


def _unpacked(rows: Node, width: int) -> list[Node]:
    """Rows of the query, key and value projections in a packed one: unpacked all at once (3 x heads x head width),
    query first and then two, or one by one."""
    return [part if part.size == width else merge(list(factors(part))[1:]) for part in parts(rows)]


def _bind_heads(path: str, module: nn.MultiheadAttention, rows: Node, embed: Node, resolver: Resolver) -> bool:
    heads, width = (merge(nodes) for nodes in _heads_and_width(rows, module.num_heads))
    if heads.size != module.num_heads or width.size != module.head_dim:
        return False
    resolver.bind(path, "num_heads", heads)
    resolver.bind(path, "head_dim", width)
    resolver.equations.append(Equation(("*", ("node", heads), ("node", width)), embed, path))
    return True


def _heads_and_width(rows: Node, num_heads: int) -> tuple[list[Node], list[Node]]:
    width = list(factors(rows))
    heads: list[Node] = []
    while width and merge(heads).size < num_heads:
        heads.append(width.pop(0))
    return heads, width


def bind_operators(model: nn.Module, program: Program, tracker: Tracker, resolver: Resolver) -> None:
    """Channels of convolutions and of norms without parameters, which only their operators show."""
    modules = dict(model.named_modules())
    for op in program.ops:
        module = modules.get(op.module)
        if op.target._schema.name == "aten::convolution" and isinstance(module, nn.modules.conv._ConvNd):
            _bind_convolution(op, tracker, resolver)
        elif op.target._schema.name == "aten::native_group_norm" and isinstance(module, nn.GroupNorm):
            resolver.bind(op.module, "num_channels", tracker.of(op, 0)[1])

    for call in program.calls:
        if call.function is multi_head_attention_forward and not isinstance(
            modules.get(call.module), nn.MultiheadAttention
        ):
            _bind_called_attention(call, tracker, resolver)


def _bind_called_attention(call: Call, tracker: Tracker, resolver: Resolver) -> None:
    """The function that `nn.MultiheadAttention` is made of, called by other code: what it checks and computes."""
    query, _, _, embed_dim, num_heads, packed, *_ = call.args
    embed = tracker.dims(query.id)[-1]
    apart = [call.kwargs.get(f"{name}_proj_weight") for name in "qkv"]
    if call.kwargs.get("use_separate_proj_weight"):
        rows = [tracker.dims(ref.id)[0] for ref in apart if ref is not None]
    else:
        rows = _unpacked(tracker.dims(packed.id)[0], embed.size)
    resolver.require(embed_dim, embed, call.where)
    for node in rows:
        heads, width = (merge(nodes) for nodes in _heads_and_width(node, int(num_heads)))
        resolver.require(num_heads, heads, call.where)
        resolver.require(width.size, width, call.where)  # the scale that the function applies is of this width
        resolver.equations.append(Equation(("*", ("node", heads), ("node", width)), embed, call.where))


def _bind_convolution(op: Op, tracker: Tracker, resolver: Resolver) -> None:
    x, rank = tracker.of(op, 0), len(tracker.of(op, 1))
    out = tracker.dims(op.outputs[0])
    if isinstance(op.args[1], Ref):
        resolver.bind(op.module, "in_channels", x[len(x) - rank + 1])
        resolver.bind(op.module, "out_channels", out[len(out) - rank + 1])
