"""Which axes a user means: by name, pattern, module type or role."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import get_args

from torch import nn

from secateur.spec import Axis, Pin, SelectorError, Structure
from secateur.spec.errors import nearest
from secateur.spec.expr import axes_of
from secateur.spec.structure import Role, channel_terms

Selector = str | type[nn.Module]
"""Axis name, module path (and everything below it), `re:` pattern on module paths, module type, role of an axis, or
`first` and `last`: the channels that the first layer makes, and those that the last one reads."""


def restrict(
    structure: Structure,
    model: nn.Module,
    *,
    ignore: Sequence[Selector] = (),
    targets: Sequence[Selector] = (),
    granularity: str | Sequence[str] = (),
) -> Structure:
    """The structure with ignored axes pinned, and, when targets or a granularity are given, with those alone chosen for
    pruning that are among the targets and of one of these roles.

    A module stands for the axes along its output; in `ignore` for the blocks around it and in it, too, and in `targets`
    for the blocks in it where the granularity names blocks. Without targets, axes of a role some of which are cut by
    default are those, else all. Raises SelectorError for a selector that matches nothing, and for a granularity that is
    no role or that no axis has.
    """
    roles = (granularity,) if isinstance(granularity, str) else tuple(granularity)
    _demand_roles(structure, roles)
    kept_whole = _matched(structure, model, ignore, _blocks_around)
    wanted = _matched(structure, model, targets, _blocks_in if "blocks" in roles else _no_blocks)
    chosen = wanted if targets else set(_by_default(structure, roles))
    if roles:
        chosen = {name for name in chosen if structure.axis[name].role in roles}
    axes = tuple(_restricted(axis, kept_whole, chosen) for axis in structure.axes)
    return with_axes(structure, axes)


def _demand_roles(structure: Structure, roles: Sequence[str]) -> None:
    known, there = get_args(Role), sorted({axis.role for axis in structure.axes})
    for role in roles:
        if role not in known:
            raise SelectorError(f"unknown granularity {role!r}; it is one or more of: {', '.join(known)}")
    if roles and not set(roles) & set(there):
        raise SelectorError(f"{structure.model} has no {', '.join(roles)} to cut; it has: {', '.join(there)}")


def _by_default(structure: Structure, roles: Sequence[str]) -> Iterable[str]:
    """Axes that are cut by default, and those of a role that was asked for and of which none is."""
    asked = set(roles) - {axis.role for axis in structure.axes if axis.chosen}
    return [axis.name for axis in structure.axes if axis.chosen or axis.role in asked]


def with_axes(structure: Structure, axes: tuple[Axis, ...]) -> Structure:
    """The structure with other pins and choices of its axes; the unit `channels` counts those that are chosen."""
    return replace(structure, axes=axes, costs={**structure.costs, "channels": channel_terms(axes, structure.homes)})


def pinned(structure: Structure, names: Collection[str], pin: Pin) -> Structure:
    """The structure with these axes kept whole."""
    return with_axes(
        structure,
        tuple(replace(axis, pin=pin, chosen=False) if axis.name in names else axis for axis in structure.axes),
    )


def _restricted(axis: Axis, ignored: set[str], chosen: set[str]) -> Axis:
    if axis.name in ignored and axis.pin is None:
        return replace(axis, pin=Pin("user", "it was asked to be ignored"), chosen=False)
    return replace(axis, chosen=axis.name in chosen and axis.pin is None)


BlocksOf = Callable[[Structure, Sequence[str]], Iterable[str]]
"""Axes of the blocks that modules stand for, by the modules' paths."""


def _no_blocks(_: Structure, __: Sequence[str]) -> Iterable[str]:
    return ()


def _blocks_in(structure: Structure, paths: Sequence[str]) -> Iterable[str]:
    return [block.axis for block in structure.blocks if _is_below(block.module, paths)]


def _blocks_around(structure: Structure, paths: Sequence[str]) -> Iterable[str]:
    around = [block.axis for block in structure.blocks if any(_is_below(path, [block.module]) for path in paths)]
    return [*around, *_blocks_in(structure, paths)]


def _is_below(path: str, modules: Sequence[str]) -> bool:
    return f"{path}.".startswith(tuple(f"{module}." for module in modules))


def _matched(structure: Structure, model: nn.Module, selectors: Iterable[Selector], blocks_of: BlocksOf) -> set[str]:
    found: set[str] = set()
    for selector in selectors:
        axes = set(_axes_of_selector(structure, model, selector, blocks_of))
        if not axes:
            known = [axis.name for axis in structure.axes] + [path for path, _ in model.named_modules() if path]
            shown = selector if isinstance(selector, str) else selector.__name__
            raise SelectorError(f"{shown!r} matches no axis; the nearest names are: {nearest(shown, known)}")
        found |= axes
    return found


def _axes_of_selector(structure: Structure, model: nn.Module, selector: Selector, blocks_of: BlocksOf) -> Iterable[str]:
    if isinstance(selector, str) and selector in structure.axis:
        return [selector]
    if isinstance(selector, str) and selector in get_args(Role):
        return [axis.name for axis in structure.axes if axis.role == selector]
    if selector in ("first", "last"):
        return _at_the_end(structure, first=selector == "first")
    if isinstance(selector, str) and selector.startswith("re:"):
        _demand_pattern(selector)
    paths = [path for path, module in model.named_modules() if is_meant(path, module, selector)]
    below = tuple(f"{path}." for path in paths)
    along = [axis for name in structure.tensors if name.startswith(below) for axis in _output_axes(structure, name)]
    return [*along, *blocks_of(structure, paths)]


def _at_the_end(structure: Structure, *, first: bool) -> Iterable[str]:
    layers = list(structure.reads.items())
    if not layers:
        return []
    name, read = layers[0] if first else layers[-1]
    return list(axes_of(structure.tensors[name].dims[1 - read if first else read]))


def _demand_pattern(selector: str) -> None:
    try:
        re.compile(selector[3:])
    except re.error as error:
        raise SelectorError(f"{selector!r} is no regular expression: {error}") from error


def is_meant(path: str, thing: object, selector: Selector) -> bool:
    """Whether a selector means what lies at this path, by its path, a pattern on it, or the type of the thing."""
    if not isinstance(selector, str):
        return isinstance(thing, selector)
    if selector.startswith("re:"):
        return bool(path) and re.search(selector[3:], path) is not None
    return bool(path) and selector in (path, type(thing).__name__)


def _output_axes(structure: Structure, name: str) -> Iterable[str]:
    spec = structure.tensors[name]
    return axes_of(spec.dims[0]) if spec.dims else ()
