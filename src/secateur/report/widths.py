"""How wide each layer was and is, as bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from secateur.report.html import Html, clipped, element, joined, name
from secateur.report.parts import figure, paragraph, table
from secateur.spec import Plan, TensorSpec
from secateur.spec.meetings import module_of
from secateur.spec.structure import shape_of

MOST_BARS, MANY = 160, 24
HEAD = ("Layer", "Before", "After", "What stays")


@dataclass(frozen=True)
class Width:
    """Outputs of a layer."""

    layer: str
    before: int
    after: int

    @property
    def share(self) -> float:
        return self.after / max(1, self.before)


def find_widths(plans: Sequence[Plan]) -> list[Width]:
    """Of every layer with a weight of two or more dimensions, from before the first of these plans to after the last;
    of blocks that leave, nothing is left."""
    first, last = plans[0], plans[-1]
    return list({width.layer: width for width in _widths(first, last)}.values())


def _widths(first: Plan, last: Plan) -> Iterator[Width]:
    gone = tuple(f"{block.module}." for plan in (first, last) for block in plan.removed_blocks)
    for weight, spec in first.structure.tensors.items():
        if spec.kind != "parameter" or len(spec.shape) < 2:
            continue
        later = last.structure.tensors.get(weight)
        after = None if later is None or weight.startswith(gone) else shape_of(later, last.sizes)
        dim = _output(weight, spec, first, after)
        yield Width(module_of(weight), spec.shape[dim], 0 if after is None else after[dim])


def _output(weight: str, spec: TensorSpec, plan: Plan, after: tuple[int, ...] | None) -> int:
    """The dimension of a weight that its outputs stand along: the first that it does not sum over, or of several the
    first that is another now."""
    read = plan.structure.reads.get(weight)
    dims = [dim for dim in range(len(spec.shape)) if dim != read]
    changed = [dim for dim in dims if after is not None and len(after) > dim and after[dim] != spec.shape[dim]]
    return (changed or dims)[0]


def since(plans: Sequence[Plan]) -> Sequence[Plan]:
    """The plans over which a layer keeps its name: blocks that leave shift the names of those behind them."""
    for place in range(len(plans) - 2, -1, -1):
        if plans[place].removed_blocks:
            return plans[place + 1 :]
    return plans


def bars(widths: Sequence[Width], *, of_last: bool) -> Html:
    """A bar for each layer, full where it is what it was. of_last: whether earlier cuts are not counted."""
    narrower = [width for width in widths if width.after < width.before]
    gone = sum(width.after == 0 for width in narrower)
    least = min(widths, key=lambda width: width.share)
    says = [f"{len(narrower)} of {len(widths)} layers are narrower than before{' the last cut' if of_last else ''}"]
    if gone:
        says.append(f"{gone} of them left altogether")
    elif narrower:
        says.append(joined(["most of all ", name(least.layer, 40), f", from {least.before:,} to {least.after:,}"]))
    rows = ((_named(width.layer), f"{width.before:,}", f"{width.after:,}", _bar(width)) for width in widths[:MOST_BARS])
    kind = "numbers bars many" if len(widths) > MANY else "numbers bars"
    picture = table("Outputs of each layer", HEAD, rows, kind=kind)
    few = len(widths) > MOST_BARS
    more = paragraph(f"Shown are the first {MOST_BARS} of {len(widths):,} layers.", kind="aside") if few else ""
    message = joined([*(part for say in says for part in (say, "; "))][:-1])
    key = "Solid is what stays, hatched what left; each bar is a layer's own width before."
    return figure(joined([picture, more]), joined([message, ". ", key]))


def _named(layer: str) -> Html:
    return element("span", name(layer, 40), title=clipped(layer, 400) if len(layer) > 40 else None)


def _bar(width: Width) -> Html:
    share = f"{100 * min(1.0, width.share):.4g}%"
    rest = f"{100 - 100 * min(1.0, width.share):.4g}%"
    return element(
        "svg",
        element("rect", x=share, y=0.5, width=rest, height=11, class_="gone") if width.share < 1 else "",
        element("rect", x=0, y=0, width=share, height=12, class_="kept"),
        width="100%",
        height=12,
        aria_hidden="true",
    )
