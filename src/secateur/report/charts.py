"""Curves and clouds of points as SVG that keeps the size of its letters at any width of the page.

Positions across are percentages of the picture, heights are pixels; lines are drawn in a box of 100 by 100 that is
stretched over the picture while strokes are not. Series differ by marks and dashes; colour only helps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from secateur.report.html import Html, element, joined, name
from secateur.report.parts import listed

HEIGHT, TOP, BOTTOM = 236, 12, 204
LEFT, RIGHT = 11.0, 97.0
MARKS = {
    "disc": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "square": "M-3.6 -3.6h7.2v7.2h-7.2z",
    "triangle": "M0 -4.8L4.4 3.4H-4.4z",
    "diamond": "M0 -5L5 0L0 5L-5 0z",
    "cross": "M-4 -4L4 4M-4 4L4 -4",
    "plus": "M0 -5V5M-5 0H5",
}
DASHES = ("", "7 4", "2 3", "9 3 2 3", "14 5", "5 2")
MOST_POINTS = 400
"""Of a series; of more every so-many-th is drawn."""
FULL_OF_MARKS = 16
"""With more points than this, only some of a series have marks."""
TICKS = 4


@dataclass(frozen=True)
class Series:
    """Points of one name."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True
    quiet: bool = False
    """In the background, without marks where it is joined."""


@dataclass(frozen=True)
class Scale:
    """Where a value stands along a picture, 0..1."""

    low: float
    high: float
    shown: Callable[[float], str] = field(default=lambda value: f"{value:g}")
    logarithmic: bool = False
    whole: bool = False
    """Whether only whole numbers are marked."""

    @classmethod
    def over(
        cls, values: Iterable[float], shown: Callable[[float], str], *, floor: float = 0.0, whole: bool = False
    ) -> Scale:
        """From the lowest to the highest, out to a round number where one is near. floor: their least distance."""
        found = list(values) or [0.0]
        low, high = min(found), max(found)
        room = max(high - low, floor, float(whole), abs(high) * 1e-6, 1e-9)
        step = _step(room, whole=whole)
        below, above = math.floor(low / step) * step, math.ceil(max(high, low + room) / step - 1e-9) * step
        near = step / 2
        return cls(
            below if low - below <= near else low - room / 20,
            above if above - high <= near or high - low < room else high + room / 20,
            shown,
            whole=whole,
        )

    def at(self, value: float) -> float:
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            return [10.0**power for power in powers[:: 1 + len(powers) // 8]]
        step = _step(self.high - self.low, whole=self.whole)
        first, last = math.ceil(self.low / step - 1e-6), math.floor(self.high / step + 1e-6)
        return [step * place for place in range(first, last + 1)]


def _step(room: float, *, whole: bool) -> float:
    """A round number that fits into the room a few times."""
    rough = max(room / TICKS, float(whole))
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def definitions() -> Html:
    """Marks and hatches, once a page."""
    marks = (element("path", id=f"mark-{kind}", d=path) for kind, path in MARKS.items())
    hatch = element(
        "pattern",
        element("path", d="M0 6L6 0", class_="hatching"),
        id="hatch",
        width=6,
        height=6,
        patternUnits="userSpaceOnUse",
    )
    return element("svg", element("defs", *marks, hatch), width=0, height=0, aria_hidden="true", class_="definitions")


def chart(series: Sequence[Series], across: Scale, up: Scale, *, title: str, says: str, axes: tuple[str, str]) -> Html:
    """Series over each other, with a legend where there are several that are not quiet.

    axes: what stands along the picture, and up. says: the message, for those who do not see it.
    """
    loud = [one for one in series if not one.quiet]
    styles = {id(one): place for place, one in enumerate(loud)}
    drawn = joined(_drawn(one, styles.get(id(one)), across, up) for one in sorted(series, key=lambda s: not s.quiet))
    picture = element(
        "svg",
        element("title", title),
        element("desc", says),
        _grid(across, up),
        drawn,
        role="img",
        aria_label=f"{title}. {says}",
        width="100%",
        height=HEIGHT,
        class_="chart",
    )
    above = element("p", axes[1], class_="axis", aria_hidden="true")
    below = element("p", axes[0], class_="axis across", aria_hidden="true")
    return joined([above, picture, below, _legend(loud, series) if len(series) > 1 else ""])


def _legend(loud: Sequence[Series], series: Sequence[Series]) -> Html:
    """A key for each series that is not quiet, and for clouds of points."""
    keys = [joined([_key(place), name(one.name, 40)]) for place, one in enumerate(loud)]
    dot = element("circle", cx=7, cy=7, r=2.5, class_="dot")
    cloud = element("svg", dot, width=14, height=14, aria_hidden="true")
    keys += (joined([cloud, name(one.name, 40)]) for one in series if one.quiet and not one.joined)
    return listed(keys, "legend")


def _key(place: int) -> Html:
    line = element("line", x1=0, x2=34, y1=7, y2=7, stroke_dasharray=_dashes(place), class_=f"line tone-{_tone(place)}")
    return element("svg", line, _mark(place, "17", 7), width=34, height=14, aria_hidden="true")


def _tone(place: int) -> int:
    return place % len(MARKS)


def _dashes(place: int) -> str | None:
    return DASHES[place % len(DASHES)] or None


def _mark(place: int, x: str, y: float) -> Html:
    kind = list(MARKS)[_tone(place)]
    return element("use", href=f"#mark-{kind}", x=x, y=_short(y), class_=f"mark tone-{_tone(place)}")


def _drawn(one: Series, style: int | None, across: Scale, up: Scale) -> Html:
    """style: its place among those that are not quiet."""
    step = max(1, math.ceil(len(one.points) / MOST_POINTS))
    points = [(across.at(x), up.at(y)) for x, y in [*one.points[:-1:step], *one.points[-1:]]]
    places = [(f"{_short(LEFT + x * (RIGHT - LEFT))}%", BOTTOM - y * (BOTTOM - TOP)) for x, y in points]
    parts: list[Html] = []
    if one.joined and len(points) > 1:
        parts.append(_path(points, style))
    if style is None:
        if not one.joined:
            parts += (element("circle", cx=x, cy=_short(y), r=2.5, class_="dot") for x, y in places)
    else:
        every = 1 if len(places) <= FULL_OF_MARKS or not one.joined else math.ceil(len(places) / 8)
        parts += (_mark(style, x, y) for place, (x, y) in enumerate(places) if place % every == (style % every))
    return joined(parts)


def _path(points: Sequence[tuple[float, float]], style: int | None) -> Html:
    corners = " ".join(f"{_short(100 * x)},{_short(100 - 100 * y)}" for x, y in points)
    line = element(
        "polyline",
        points=corners,
        vector_effect="non-scaling-stroke",
        stroke_dasharray=None if style is None else _dashes(style),
        class_="line quiet" if style is None else f"line tone-{_tone(style)}",
    )
    return element(
        "svg",
        line,
        x=f"{LEFT}%",
        y=TOP,
        width=f"{RIGHT - LEFT}%",
        height=BOTTOM - TOP,
        viewBox="0 0 100 100",
        preserveAspectRatio="none",
        class_="stretched",
    )


def _grid(across: Scale, up: Scale) -> Html:
    parts: list[Html] = []
    for value in up.ticks():
        y = _short(BOTTOM - up.at(value) * (BOTTOM - TOP))
        parts.append(element("line", x1=f"{LEFT}%", x2=f"{RIGHT}%", y1=y, y2=y, class_="grid"))
        parts.append(element("text", up.shown(value), x=f"{LEFT - 1.5}%", y=y, dy="0.35em", text_anchor="end"))
    for value in across.ticks():
        x = f"{_short(LEFT + across.at(value) * (RIGHT - LEFT))}%"
        parts.append(element("line", x1=x, x2=x, y1=BOTTOM, y2=BOTTOM + 4, class_="grid"))
        parts.append(element("text", across.shown(value), x=x, y=BOTTOM + 19, text_anchor="middle"))
    return element("g", *parts, class_="ticks")


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
