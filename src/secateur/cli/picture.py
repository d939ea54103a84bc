"""Curves as a picture: SVG, written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 420, 60, 20, 260, 50
"""Of the picture and of its margins, in pixels."""
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf", "#000000")
REST = "#cccccc"
Curve = Sequence[tuple[float, float]]


def curves_svg(curves: Mapping[str, Curve], *, title: str, across: str, up: str) -> str:
    """One line per curve of (x in 0..1, y); the first ones in colour with their names, the others grey."""
    heights = [y for curve in curves.values() for _, y in curve]
    low, high = min([0.0, *heights]), max([0.01, *heights])
    lines = [_line(curve, low, high, REST) for curve in list(curves.values())[len(COLOURS) :]]
    named = list(zip(curves.items(), COLOURS, strict=False))
    lines += [_line(curve, low, high, colour) for (_, curve), colour in named]
    names = [
        _text(WIDTH - RIGHT + 15, TOP + 18 * row, name, colour) for row, ((name, _), colour) in enumerate(named, 1)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
            'font-size="12">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            *_grid(low, high),
            _text(LEFT, HEIGHT - 10, across),
            _text(LEFT, TOP - 6, up),
            *lines,
            *names,
            "</svg>\n",
        ]
    )


def _grid(low: float, high: float) -> list[str]:
    drawn: list[str] = []
    for step in range(5):
        share = step / 4
        x, y = _place(share, low + share * (high - low), low, high)
        drawn.append(f'<path d="M{x} {TOP}V{HEIGHT - BOTTOM}M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#eeeeee"/>')
        drawn.append(_text(x - 12, HEIGHT - BOTTOM + 16, f"{share:.0%}"))
        drawn.append(_text(8, y + 4, f"{low + share * (high - low):.3g}"))
    return drawn


def _line(curve: Curve, low: float, high: float, colour: str) -> str:
    points = [_place(x, y, low, high) for x, y in [(0.0, 0.0), *curve]]
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _place(x: float, y: float, low: float, high: float) -> tuple[float, float]:
    across = LEFT + x * (WIDTH - LEFT - RIGHT)
    return round(across, 1), round(HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)


def _text(x: float, y: float, text: str, colour: str = "#444444") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}">{escape(text)}</text>'
