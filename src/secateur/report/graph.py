"""The structure as lanes beside the layers: a line for each group of channels that is cut together, from the first
layer that has it to the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secateur.report.html import Html, clipped, element, joined, name
from secateur.report.parts import figure, listed, paragraph, scrolling, table
from secateur.report.widths import Width, find_widths
from secateur.spec import Plan
from secateur.spec.meetings import Meeting, find_meetings, module_of

ROW, LANE, TOP = 22, 15, 14
LETTER = 7.0
"""Width of a letter of a layer's name, about, in pixels."""
LONGEST_NAME = 44
MOST_ROWS, MOST_LANES = 160, 28


@dataclass(frozen=True)
class _Line:
    """A meeting, drawn."""

    meeting: Meeting
    size: int
    """Of the axis after the cut."""
    lane: int
    first: int
    last: int

    @property
    def kind(self) -> str:
        if self.meeting.axis.pin is not None:
            return "whole"
        return "cut" if self.size < self.meeting.axis.size else "free"


def drawn(plans: Sequence[Plan]) -> Html:
    """The picture of what these plans cut, one after the other, with its key and the groups as a table."""
    first, last = plans[0], plans[-1]
    if first.structure.sizes.keys() != last.structure.sizes.keys():  # traced with other options; the last cut alone
        first = last
    structure, sizes = first.structure, _sizes(first, last)
    meetings = find_meetings(structure)
    there = {module for meeting in meetings for module in meeting.modules}
    modules = [module for module in dict.fromkeys(map(module_of, structure.tensors)) if module in there]
    shown = modules[:MOST_ROWS]
    lines = _lines(meetings, {module: row for row, module in enumerate(shown)}, sizes)
    cut = [meeting for meeting in meetings if sizes[meeting.axis.name] < meeting.axis.size]
    says = _message(cut, meetings, len(modules))
    few = len(modules) > len(shown)
    more = paragraph(f"Drawn are the first {len(shown)} of {len(modules):,} layers.", kind="aside") if few else ""
    rows = (_row(meeting, sizes) for meeting in meetings)
    numbers = table("Groups", ("Group", "Kind", "Before", "After", "Made by", "Read by"), rows, kind="numbers words")
    widths = {width.layer: width for width in find_widths(plans)}
    picture = scrolling(_picture(shown, lines, widths, says), "Groups of channels along the layers")
    return figure(joined([picture, _key(), more]), says, numbers, summary="Groups")


def _sizes(first: Plan, last: Plan) -> dict[str, int]:
    """Of the axes in the end; of blocks that leave, nothing is left."""
    homes, sizes = first.structure.homes, dict(last.sizes)
    return {axis: 0 if axis in homes and sizes[homes[axis]] == 0 else size for axis, size in sizes.items()}


def _message(cut: Sequence[Meeting], meetings: Sequence[Meeting], layers: int) -> str:
    largest = max(cut, key=lambda meeting: len(meeting.modules), default=None)
    said = f"{len(cut)} of {len(meetings)} groups were cut, in {layers} layers"
    if largest is None:
        return f"{said}."
    return f"{said}; the largest runs through {len(largest.modules)} layers, which lose the same channels."


def _row(meeting: Meeting, sizes: Mapping[str, int]) -> Sequence[object]:
    axis = meeting.axis
    kind = axis.role if axis.pin is None else f"whole: {axis.pin.code}"
    makers, readers = ([*meeting.makers, *meeting.along], meeting.readers)
    return name(axis.name, 40), kind, axis.size, sizes[axis.name], _some(makers), _some(readers)


def _some(modules: Sequence[str]) -> str:
    shown = ", ".join(clipped(module, 40) for module in modules[:6])
    return f"{shown} and {len(modules) - 6} more" if len(modules) > 6 else shown


def _lines(meetings: Sequence[Meeting], rows: Mapping[str, int], sizes: Mapping[str, int]) -> list[_Line]:
    """Longest first into the first lane that is free; what meets in one layer alone and stays whole is no line."""
    spans: list[tuple[int, int, Meeting]] = []
    for meeting in meetings:
        at = [rows[module] for module in meeting.modules if module in rows]
        if at and (len(at) > 1 or meeting.axis.pin is None):
            spans.append((min(at), max(at), meeting))
    taken: list[list[tuple[int, int]]] = []
    made: list[_Line] = []
    for first, last, meeting in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        lane = next((lane for lane, own in enumerate(taken) if _free(own, first, last)), len(taken))
        if lane == MOST_LANES:
            continue
        if lane == len(taken):
            taken.append([])
        taken[lane].append((first, last))
        made.append(_Line(meeting, sizes[meeting.axis.name], lane, first, last))
    return made


def _free(taken: Sequence[tuple[int, int]], first: int, last: int) -> bool:
    return all(last < start or first > end for start, end in taken)


def _picture(modules: Sequence[str], lines: Sequence[_Line], widths: Mapping[str, Width], says: str) -> Html:
    lanes = 1 + max((line.lane for line in lines), default=0)
    words = TOP + lanes * LANE
    longest = max((len(clipped(module, LONGEST_NAME)) for module in modules), default=0)
    beside = round(words + longest * LETTER + 16)
    rows = [
        joined(
            [
                element("line", x1=_x(left), x2=words - 4, y1=_y(row), y2=_y(row), class_="leader"),
                element("text", clipped(module, LONGEST_NAME), x=words, y=_y(row), dy="0.35em"),
                element("text", _size(widths.get(module)), x=beside, y=_y(row), dy="0.35em", class_="size"),
            ]
        )
        for row, module in enumerate(modules)
        for left in [min((line.lane for line in lines if module in line.meeting.modules), default=lanes)]
    ]
    return element(
        "svg",
        element("title", "Groups of channels along the layers"),
        element("desc", says),
        *rows,
        *(_lane(line, modules) for line in lines),
        role="img",
        aria_label=f"Groups of channels along the layers. {says}",
        width="100%",
        height=len(modules) * ROW + 4,
        style=f"min-width:{beside + 90}px",
        class_="graph",
    )


def _size(width: Width | None) -> str:
    if width is None:
        return ""
    return f"{width.before} → {width.after}" if width.after != width.before else str(width.before)


def _lane(line: _Line, modules: Sequence[str]) -> Html:
    x = _x(line.lane)
    rows = {module: row for row, module in enumerate(modules)}
    marks = [
        element("circle", cx=x, cy=_y(rows[module]), r=4, class_=kind)
        for kind, named in (("reads", line.meeting.readers), ("makes", [*line.meeting.makers, *line.meeting.along]))
        for module in named
        if module in rows
    ]
    path = element("line", x1=x, x2=x, y1=_y(line.first), y2=_y(line.last), class_="along")
    return element("g", path, *marks, class_=line.kind)


def _x(lane: int) -> int:
    return 8 + lane * LANE


def _y(row: int) -> int:
    return TOP + row * ROW


def _key() -> Html:
    said = {
        "cut": "a group that was cut",
        "free": "one that could be cut and was not",
        "whole": "one that stays whole",
    }
    lines = [joined([_sample(kind), text]) for kind, text in said.items()]
    dots = [
        joined([_dot("makes"), "the layer makes these channels"]),
        joined([_dot("reads"), "the layer reads them"]),
    ]
    return listed([*lines, *dots], "legend")


def _sample(kind: str) -> Html:
    line = element("line", x1=0, x2=30, y1=7, y2=7, class_="along")
    return element("svg", element("g", line, class_=kind), width=30, height=14, aria_hidden="true", class_="graph")


def _dot(kind: str) -> Html:
    dot = element("g", element("circle", cx=7, cy=7, r=4, class_=kind), class_="cut")
    return element("svg", dot, width=14, height=14, aria_hidden="true", class_="graph")
