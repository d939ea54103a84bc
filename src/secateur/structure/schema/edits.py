"""An edited schema given back: what it keeps whole, what it chooses, and what the network cannot do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from secateur.spec import Axis, Pin, SchemaError, Structure
from secateur.spec.errors import nearest
from secateur.structure.schema.document import Schema, read_schema
from secateur.structure.schema.view import View
from secateur.structure.selectors import with_axes


@dataclass(frozen=True)
class _Entry:
    """One key of the file: the layer or part that it names, and what it lists."""

    key: str
    output: str
    """The key without the part."""
    axes: frozenset[str]
    members: frozenset[str]
    """With the output itself, unless it lists nothing."""


def apply_schema(structure: Structure, schema: str | Path | Schema) -> Structure:
    """The structure as an edited base schema wants it.

    A group whose keys are empty or missing stays whole. So does a group that needs a member which some key leaves out;
    a note says which. `<layer>_out[<part>]` in place of `<layer>_out` chooses single axes along an output, by name or
    role. Raises SchemaError for what contradicts the network.
    """
    given = read_schema(schema)
    view = View(structure, prefix=prefix_of(given, structure))
    entries = [_entry(view, key, members) for key, members in given.items()]
    _refuse_whole_beside_parts(entries)
    wanted = _wanted(structure, entries)
    whole: dict[str, str] = {}
    notes: list[str] = []
    for name in wanted:
        covering = {entry.output: entry for entry in entries if name in entry.axes}
        _refuse_split(structure.axis[name], covering.values())
        producers = view.producers(name)
        reason = next(_gaps(view, name, producers, covering), None)
        if reason is not None:
            whole[name] = reason
            if any(entry.members for entry in covering.values()):
                notes.append(f"schema: {name} stays whole: {reason}")
    tied = _followers(structure, whole)
    axes = tuple(_edited(axis, whole, tied, wanted) for axis in structure.axes)
    return with_axes(replace(structure, notes=(*structure.notes, *notes)), axes)


def prefix_of(schema: Schema, structure: Structure) -> str:
    """What the file puts before every name: the shortest prefix with which most of its keys are known."""
    known = View(structure).outputs
    outputs = [_parted(key)[0] for key in schema]
    found = {key.removesuffix(name) for key in outputs for name in known if key.endswith(name)}

    def known_with(prefix: str) -> int:
        return sum(key.startswith(prefix) and key.removeprefix(prefix) in known for key in outputs)

    return max(sorted({"", *found}, key=len), key=known_with)


def _parted(key: str) -> tuple[str, str]:
    """`layer_out[part]` as (`layer_out`, `part`)."""
    output, bracket, part = key.partition("_out[")
    return (f"{output}_out", part.removesuffix("]")) if bracket else (key, "")


def _entry(view: View, key: str, members: Sequence[str]) -> _Entry:
    output, part = _parted(key)
    if output not in view.outputs:
        raise SchemaError(
            f"the schema has key {key!r}, but the network has no such output; the nearest are: "
            f"{nearest(output, list(view.outputs))}"
        )
    along = view.outputs[output]
    axes = [axis for axis in along if part in (axis.name, axis.role)] if part else along
    if part and not axes:
        raise SchemaError(
            f"the schema has key {key!r}, but {output!r} has no such part; it has: {_shown(along) or '-'}"
        )
    free = [axis for axis in axes if axis.pin is None and (axis.chosen or part)]
    if members and not free:
        raise SchemaError(f"{key}: {members[0]!r} is listed, but this output {_why_whole(axes)}; leave the list empty")
    fitting = {output, *view.members_of(free)}
    for name in members:
        if name not in fitting:
            raise SchemaError(_stranger(view, key, free, name))
    return _Entry(key, output, frozenset(axis.name for axis in free), frozenset({output, *members} if members else ()))


def _why_whole(axes: Sequence[Axis]) -> str:
    pins = [axis.pin for axis in axes if axis.pin is not None]
    if pins:
        cure = f" ({pins[0].cure} would free it)" if pins[0].cure else ""
        return f"must stay whole: {pins[0].detail}{cure}"
    return f"is not cut by default; name the part to cut: {_shown(axes)}" if axes else "has a fixed size"


def _stranger(view: View, key: str, axes: Sequence[Axis], name: str) -> str:
    """Why a member cannot be listed under a key."""
    if name not in view.axes_at:
        return f"{key}: the network has no {name!r}; the nearest are: {nearest(name, list(view.axes_at))}"
    own = [axis for axis in view.axes_at[name] if axis.chosen] or view.axes_at[name]
    keys = list(dict.fromkeys(output for axis in own for output in view.producers(axis.name)))
    home = f"it leaves with {', '.join(keys[:3])}; " if keys else ""
    return (
        f"{key}: {name!r} cannot leave with it: {name} stands along {_shown(own) or 'no axis'}, {key} along "
        f"{_shown(axes)}, and nothing in the network lines these up; {home}move it back"
    )


def _shown(axes: Iterable[Axis]) -> str:
    return ", ".join(f"{axis.name} ({axis.size} {axis.role})" for axis in axes)


def _refuse_whole_beside_parts(entries: list[_Entry]) -> None:
    whole = {entry.output for entry in entries if entry.key == entry.output}
    for entry in entries:
        if entry.key != entry.output and entry.output in whole:
            raise SchemaError(f"the schema has both {entry.output!r} and its part {entry.key!r}; keep one of the two")


def _wanted(structure: Structure, entries: list[_Entry]) -> list[str]:
    """Axes that are cut by default, those that parts name, and those that are tied to these."""
    named = {axis for entry in entries if entry.key != entry.output and entry.members for axis in entry.axes}
    named |= _followers(structure, named).keys()
    return [axis.name for axis in structure.axes if axis.pin is None and (axis.chosen or axis.name in named)]


def _refuse_split(axis: Axis, covering: Iterable[_Entry]) -> None:
    for one, other in combinations([entry for entry in covering if entry.members], 2):
        if other.output not in one.members and one.output not in other.members:
            raise SchemaError(
                f"{one.key} and {other.key} cannot be split: the network lines their outputs up (an addition, or a "
                f"layer that works channel by channel), so both stand along the one axis {axis.name} ({axis.size} "
                f"{axis.role}); list {other.output!r} in {one.key}, or empty the lists to keep the group whole"
            )


def _gaps(view: View, axis: str, producers: list[str], covering: dict[str, _Entry]) -> Iterator[str]:
    """What the file leaves out of the group of an axis."""
    members = view.members_of([view.structure.axis[axis]])
    for output in producers:
        entry = covering.get(output)
        if entry is None:
            yield f"the schema has no key {output} for it"
        elif not entry.members:
            yield f"key {entry.key} is empty"
        else:
            yield from (f"key {entry.key} leaves out {name}" for name in members if name not in entry.members)


def _followers(structure: Structure, names: Iterable[str]) -> dict[str, str]:
    """Axis tied to one of those named -> the reason of the tie."""
    given = set(names)
    return {
        name: tie.reason
        for tie in structure.ties
        if given & {name for name, _ in tie.members}
        for name, _ in tie.members
        if name not in given
    }


def _edited(axis: Axis, whole: dict[str, str], tied: dict[str, str], wanted: list[str]) -> Axis:
    if axis.name in whole:
        pin = Pin("user", f"the schema keeps it whole: {whole[axis.name]}", cure="complete the schema there")
        return replace(axis, pin=pin, chosen=False)
    if axis.name in tied and axis.pin is None:
        pin = Pin("tied", f"the schema keeps an axis whole that it is tied to: {tied[axis.name]}")
        return replace(axis, pin=pin, chosen=False)
    return replace(axis, chosen=axis.name in wanted)
