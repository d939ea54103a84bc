"""Pooling, resizing and other operators on spatial dimensions: channels pass through, space stays whole."""

from __future__ import annotations

from secateur.structure.algebra import merge
from secateur.structure.program import Op
from secateur.structure.rules.table import Dims, Rule, rule
from secateur.structure.tracker import Tracker


def _on_last(count: int) -> Rule:
    def spatial(t: Tracker, op: Op) -> list[Dims]:
        x = t.of(op, 0)
        for node in x[-count:]:
            t.pin(node, "spatial", "a spatial dimension", op)
        space = [t.fixed(size, "spatial", "a spatial dimension", op) for size in t.shape(op.outputs[0])[-count:]]
        return [[*x[:-count], *space] for _ in op.outputs]

    return spatial


for _count in (1, 2, 3):
    rule(
        f"aten::max_pool{_count}d_with_indices",
        f"aten::max_pool{_count}d",
        f"aten::avg_pool{_count}d",
        f"aten::_adaptive_avg_pool{_count}d",
        f"aten::adaptive_avg_pool{_count}d",
        f"aten::adaptive_max_pool{_count}d",
        f"aten::upsample_nearest{_count}d",
        f"aten::_upsample_nearest_exact{_count}d",
        f"aten::reflection_pad{_count}d",
        f"aten::replication_pad{_count}d",
    )(_on_last(_count))
rule("aten::upsample_linear1d")(_on_last(1))
rule(
    "aten::upsample_bilinear2d",
    "aten::upsample_bicubic2d",
    "aten::_upsample_bilinear2d_aa",
    "aten::_upsample_bicubic2d_aa",
)(_on_last(2))
rule("aten::upsample_trilinear3d")(_on_last(3))


@rule("aten::grid_sampler_2d", "aten::grid_sampler_3d")
def grid_sampler(t: Tracker, op: Op) -> Dims:
    x, grid = t.of(op, 0), t.of(op, 1)
    for node in [*x[2:], *grid[1:]]:
        t.pin(node, "spatial", "a spatial dimension", op)
    t.unify(x[0], grid[0], op)
    return [*x[:2], *grid[1:-1]]


@rule("aten::im2col")
def im2col(t: Tracker, op: Op) -> Dims:
    x = t.of(op, 0)
    *lead, channels = x[:-2]
    for node in x[-2:]:
        t.pin(node, "spatial", "a spatial dimension", op)
    shape = t.shape(op.outputs[0])
    window = t.fixed(shape[-2] // channels.size, "spatial", "entries of a window", op)
    return [*lead, merge([channels, window]), t.fixed(shape[-1], "spatial", "windows", op)]


@rule("aten::col2im")
def col2im(t: Tracker, op: Op) -> Dims:
    *lead, columns, windows = t.of(op, 0)
    t.pin(windows, "spatial", "windows", op)
    shape = t.shape(op.outputs[0])
    channels, window = t.split(columns, [shape[-3], columns.size // shape[-3]], op)
    t.pin(window, "spatial", "entries of a window", op)
    t.reduce(op, 0, [len(lead)], "zero")
    return [*lead, channels, *(t.fixed(size, "spatial", "a spatial dimension", op) for size in shape[-2:])]
