"""What `inspect` says of a network: a record for programs, and one screen for people, whatever the network's size.

A reason is a pair of code and detail. What it costs is said by two shares of the parameters: those of tensors in which
one of its axes occurs, and among them those that no cut reaches, because all their axes stay whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur.cli.tables import shown, table

if TYPE_CHECKING:
    from secateur.spec import Axis, Pin, Structure

LINES = 40
COLUMNS = 110
NOTES = 4
COSTS = ("param_count", "macs", "size_bytes", "activation_bytes")


def overview(structure: Structure, name: str) -> dict[str, Any]:
    """The record: costs, what can be cut by role, what stays whole by reason, ties and notes."""
    from secateur.cost import network_costs

    tensors = _Tensors(structure)
    return {
        "model": name,
        "class": structure.model,
        **network_costs(structure),
        "axes": len(structure.axes),
        "prunable_axes": len(structure.prunable),
        "prunable_share": structure.prunable_share(),
        "cut": [_kind(axes, tensors) for axes in _kinds(structure)],
        "whole": reasons(structure),
        "ties": [{"axes": [axis for axis, _ in tie.members], "reason": tie.reason} for tie in structure.ties],
        "notes": list(structure.notes),
    }


def reasons(structure: Structure) -> list[dict[str, Any]]:
    """Why axes stay whole, grouped by code and detail; first the reasons that keep most parameters out of reach."""
    tensors = _Tensors(structure)
    groups: dict[tuple[str, str], list[tuple[Axis, Pin]]] = {}
    for axis, pin in whole(structure):
        groups.setdefault((pin.code, pin.detail), []).append((axis, pin))
    made = [_reason(axes, tensors) for axes in groups.values()]
    return sorted(made, key=lambda reason: (-reason["unreached_share"], -reason["share"], -reason["count"]))


def whole(structure: Structure) -> list[tuple[Axis, Pin]]:
    """Axes that stay whole, each with its pin."""
    return [(axis, axis.pin) for axis in structure.axes if axis.pin is not None]


class _Tensors:
    """The parameters in which axes occur, as shares of all."""

    def __init__(self, structure: Structure) -> None:
        from secateur.spec.meetings import places

        blocks = {block.axis: f"{block.module}." for block in structure.blocks}
        free = {axis.name for axis in structure.prunable}
        self._sizes = {name: prod(t.shape) for name, t in structure.tensors.items() if t.kind == "parameter"}
        self._of: dict[str, set[str]] = {
            axis: {name for name in self._sizes if name.startswith(module)} for axis, module in blocks.items()
        }
        for axis, tensor, _ in places(structure):
            if tensor in self._sizes:
                self._of.setdefault(axis, set()).add(tensor)
        self._reached = set().union(*(self._of.get(axis, ()) for axis in free))

    def shares(self, axes: Iterable[Axis]) -> tuple[float, float]:
        """Share of the parameters in which the axes occur, and of those among them that no cut reaches."""
        names = set().union(*(self._of.get(axis.name, ()) for axis in axes))
        total = max(1, sum(self._sizes.values()))
        return self._sum(names) / total, self._sum(names - self._reached) / total

    def _sum(self, names: Collection[str]) -> int:
        return sum(self._sizes[name] for name in names)


def _kinds(structure: Structure) -> list[list[Axis]]:
    """Free axes of the same role that are cut by default, or not: the default ones first, the commonest first."""
    found: dict[tuple[str, bool], list[Axis]] = {}
    for axis in structure.prunable:
        found.setdefault((axis.role, axis.chosen), []).append(axis)
    return sorted(found.values(), key=lambda axes: (not axes[0].chosen, -len(axes)))


def _kind(axes: Sequence[Axis], tensors: _Tensors) -> dict[str, Any]:
    sizes = [axis.size for axis in axes]
    return {
        "role": axes[0].role,
        "count": len(axes),
        "smallest": min(sizes),
        "largest": max(sizes),
        "share": tensors.shares(axes)[0],
        "by_default": axes[0].chosen,
    }


def _reason(axes: Sequence[tuple[Axis, Pin]], tensors: _Tensors) -> dict[str, Any]:
    example, pin = axes[0]
    share, unreached = tensors.shares(axis for axis, _ in axes)
    return {
        "code": pin.code,
        "detail": pin.detail,
        "count": len(axes),
        "share": share,
        "unreached_share": unreached,
        "example": example.name,
        "size": example.size,
        "where": pin.where,
        "cure": next((pin.cure for _, pin in axes if pin.cure), ""),
        "axes": [axis.name for axis, _ in axes],
    }


def screen(record: Mapping[str, Any]) -> str:
    """The record on one screen: at most LINES lines of at most COLUMNS columns."""
    top = [*head(record), "", *_cut(record["cut"]), *_ties(record["ties"])]
    notes = _notes(record["notes"])
    left = LINES - len(top) - len(notes)
    return "\n".join(_clipped(line) for line in [*top, *_reasons(record["whole"], left), *notes])


def head(record: Mapping[str, Any]) -> list[str]:
    """What network it is, what it costs, and how much of it can be cut."""
    return [
        f"{record['model']} ({record['class']})",
        *table([(key, shown(record[key])) for key in COSTS]).splitlines(),
        f"{record['axes']} axes, {record['prunable_axes']} may be cut; {record['prunable_share']:.1%} of the "
        "parameters touch one of these",
    ]


def _cut(kinds: Sequence[Mapping[str, Any]]) -> list[str]:
    if not kinds:
        return ["nothing can be cut"]
    rows = [("what can be cut", "axes", "sizes", "in parameters", "")]
    for kind in kinds:
        sizes = sorted({kind["smallest"], kind["largest"]})
        asked = "by default" if kind["by_default"] else f"on request: --granularity {kind['role']}"
        rows.append((kind["role"], str(kind["count"]), "..".join(map(str, sizes)), f"{kind['share']:.1%}", asked))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4]]).rstrip()
        for row in rows
    ]


def _ties(ties: Sequence[Mapping[str, Any]]) -> list[str]:
    if not ties:
        return []
    count, first = sum(len(tie["axes"]) for tie in ties), ties[0]
    sets = f"{len(ties)} set{'s' * (len(ties) > 1)}"
    return [f"{count} of them tied, in {sets}: {first['reason']}: {', '.join(first['axes'][:2])}, ..."]


def _reasons(whole: Sequence[Mapping[str, Any]], room: int) -> list[str]:
    """As many reasons as there is room for, and how many are left."""
    if not whole:
        return []
    widest = COLUMNS - len("  axes  in parameters  out of reach")
    lines = ["", f"{'what stays whole, and why':<{widest}}  axes  in parameters  out of reach"]
    for number, reason in enumerate(whole):
        entry = _entry(reason, widest)
        if len(lines) + len(entry) + (number + 1 < len(whole)) > room:
            rest = whole[number:]
            more = f"{len(rest)} more reasons for {sum(reason['count'] for reason in rest)} axes"
            return [*lines, f"  and {more}: --why lists every axis"]
        lines += entry
    return lines


def _entry(reason: Mapping[str, Any], widest: int) -> list[str]:
    title = _clipped(f"  {reason['code']}: {reason['detail']}", widest)
    shares = f"{reason['count']:>4}  {reason['share']:>13.1%}  {reason['unreached_share']:>12.1%}"
    place = _near(reason["where"], reason["example"])
    lines = [f"{title:<{widest}}  {shares}", f"    {reason['example']} [{reason['size']}]{place and f' at {place}'}"]
    return [*lines, f"    cure: {reason['cure']}"] if reason["cure"] else lines


def _near(where: str, axis: str) -> str:
    """A place in code, its path from the package or the current folder; a module only where the axis is of another."""
    module, _, file = where.partition(" at ")
    if axis.startswith(f"{module}."):
        where = file
    return re.sub(r"\S*/(?:site|dist)-packages/", "", where).replace(f"{Path.cwd()}/", "")


def _notes(notes: Sequence[str]) -> list[str]:
    if len(notes) <= NOTES:
        return [f"note: {text}" for text in notes]
    return [*(f"note: {text}" for text in notes[: NOTES - 1]), f"and {len(notes) - NOTES + 1} more notes: --json"]


def _clipped(line: str, columns: int = COLUMNS) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= columns else f"{line[: columns - 3]}..."
