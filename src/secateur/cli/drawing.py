"""A structure as a graph that Graphviz draws: `secateur inspect MODEL --format dot | dot -Tsvg > model.svg`.

Boxes are modules that hold weights. What leaves one and enters another along the same axis is an arrow with the axis's
size; where more than two meet on an axis (a residual stream), the axis is a node of its own. Colours are roles, grey is
what stays whole; norms and biases are counted at the axis that they stand on. Frames are the parts of the model, dashed
ones residual blocks that may leave as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from secateur.spec import Axis, Structure
    from secateur.spec.meetings import Meeting

COLOURS = {
    "channels": "steelblue",
    "heads": "darkorange",
    "head_width": "goldenrod",
    "groups": "seagreen",
    "group_width": "mediumseagreen",
    "experts": "mediumorchid",
    "state": "firebrick",
}
WHOLE = "gray60"
CROWD = 20
"""Where more modules than this meet on one axis, they stand under each other and not side by side."""
SETTINGS = (
    "newrank=true",
    'node [shape=box, fontname="sans-serif", fontsize=10]',
    'edge [fontname="sans-serif", fontsize=9]',
)


def drawn(structure: Structure) -> str:
    """The graph in Graphviz's language."""
    from secateur.spec.meetings import find_meetings

    meetings = find_meetings(structure)
    modules = list(dict.fromkeys(module for meeting in meetings for module in meeting.modules))
    numbers = {module: number for number, module in enumerate(modules)}
    frames = _Frames(structure, modules)
    for module in modules:
        frames.add(frames.around([module]), _module(numbers[module], module, structure))
    for meeting in meetings:
        if not _is_arrow(meeting):
            frames.add(frames.around(meeting.modules), _axis(meeting))
    edges = [edge for meeting in meetings for edge in _edges(meeting, numbers)]
    crowd = max((len(meeting.modules) for meeting in meetings), default=0)
    lines = [f"rankdir={'LR' if crowd > CROWD else 'TB'}", *SETTINGS, *frames.lines(), *edges]
    return "\n".join([f"digraph {quoted(structure.model)} {{", *(f"  {line}" for line in lines), "}"])


def quoted(text: str) -> str:
    """The text as a string of Graphviz's language; each of its characters is shown as it is."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _is_arrow(meeting: Meeting) -> bool:
    return len(meeting.makers) == len(meeting.readers) == 1 and not meeting.along and meeting.makers != meeting.readers


def _module(number: int, module: str, structure: Structure) -> str:
    from secateur.spec.meetings import module_of

    shapes = [t.shape for name, t in structure.tensors.items() if module_of(name) == module and len(t.shape) > 1]
    label = f"{module}\n{', '.join('x'.join(map(str, shape)) for shape in shapes[:3])}"
    return f"m{number} [label={quoted(label)}]"


def _axis(meeting: Meeting) -> str:
    label = f"{meeting.axis.name}\n{_size(meeting)}"
    return f"a{meeting.number} [shape=ellipse, label={quoted(label)}, {_ink(meeting.axis)}]"


def _size(meeting: Meeting) -> str:
    axis = meeting.axis
    norms = f", {meeting.norms} norm{'s' * (meeting.norms > 1)}" * bool(meeting.norms)
    return f"{axis.size} {axis.role}{norms}{f', whole: {axis.pin.code}' if axis.pin else ''}"


def _ink(axis: Axis) -> str:
    colour = WHOLE if axis.pin else COLOURS.get(axis.role, "black")
    return f"color={colour}, fontcolor={colour}{'' if axis.chosen or axis.pin else ', style=dashed'}"


def _edges(meeting: Meeting, numbers: Mapping[str, int]) -> Iterator[str]:
    ink = _ink(meeting.axis)
    if _is_arrow(meeting):
        (maker,), (reader,) = meeting.makers, meeting.readers
        yield f"m{numbers[maker]} -> m{numbers[reader]} [label={quoted(_size(meeting))}, {ink}]"
        return
    for place, maker in enumerate(meeting.makers):
        later = ", constraint=false" if place else ""
        yield f"m{numbers[maker]} -> a{meeting.number} [{ink}{later}]"
    for module in meeting.readers:
        yield f"a{meeting.number} -> m{numbers[module]} [{ink}]"
    for module in meeting.along:
        yield f"a{meeting.number} -> m{numbers[module]} [{ink}, dir=none]"


class _Frames:
    """Nested frames around the parts of the model and its residual blocks, with the nodes inside them."""

    def __init__(self, structure: Structure, modules: Iterable[str]) -> None:
        self._blocks = {block.module: structure.axis[block.axis] for block in structure.blocks}
        tops = [module.partition(".")[0] for module in modules if "." in module]
        self._inside: dict[str, list[str]] = {path: [] for path in ["", *dict.fromkeys([*tops, *self._blocks])]}

    def add(self, frame: str, node: str) -> None:
        self._inside[frame].append(node)

    def around(self, modules: Iterable[str]) -> str:
        """The innermost frame that all these modules are in."""
        modules = list(modules)
        return max((path for path in self._inside if all(_is_in(module, path) for module in modules)), key=len)

    def _outside(self, frame: str) -> str:
        """The frame that this one stands in."""
        return max((path for path in self._inside if path != frame and _is_in(frame, path)), key=len)

    def lines(self, frame: str = "") -> Iterator[str]:
        """What is in the frame, with the frames that stand in it."""
        yield from self._inside[frame]
        for path in self._inside:
            if path and self._outside(path) == frame:
                yield f"subgraph {quoted(f'cluster_{path}')} {{"
                yield f"  label={quoted(path)}; {self._style(path)}"
                yield from (f"  {line}" for line in self.lines(path))
                yield "}"

    def _style(self, path: str) -> str:
        axis = self._blocks.get(path)
        return "color=gray80" if axis is None else f"style=dashed; color={WHOLE if axis.pin else 'black'}"


def _is_in(module: str, path: str) -> bool:
    return not path or module == path or module.startswith(f"{path}.")
