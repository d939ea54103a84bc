"""Which axes a user means: by name, pattern, module type or role."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
    structure: Structure, model: nn.Module, *, ignore: Sequence[Selector] = (), targets: Sequence[Selector] = ()
) -> Structure:
    """The structure with ignored axes pinned, and, when targets are given, with those alone chosen for pruning.

    A module stands for the axes along its output. Raises SelectorError for a selector that matches nothing.
    """
    kept_whole = _matched(structure, model, ignore)
    wanted = _matched(structure, model, targets)
    axes = tuple(_restricted(axis, kept_whole, wanted if targets else None) for axis in structure.axes)
    return with_axes(structure, axes)


def with_axes(structure: Structure, axes: tuple[Axis, ...]) -> Structure:
    """The structure with other pins and choices of its axes; the unit `channels` counts those that are chosen."""
    return replace(structure, axes=axes, costs={**structure.costs, "channels": channel_terms(axes)})


def _restricted(axis: Axis, ignored: set[str], wanted: set[str] | None) -> Axis:
    if axis.name in ignored and axis.pin is None:
        return replace(axis, pin=Pin("user", "it was asked to be ignored"), chosen=False)
    if wanted is not None:
        return replace(axis, chosen=axis.name in wanted and axis.pin is None)
    return axis


def _matched(structure: Structure, model: nn.Module, selectors: Iterable[Selector]) -> set[str]:
    found: set[str] = set()
    for selector in selectors:
        axes = set(_axes_of_selector(structure, model, selector))
        if not axes:
            known = [axis.name for axis in structure.axes] + [path for path, _ in model.named_modules() if path]
            shown = selector if isinstance(selector, str) else selector.__name__
            raise SelectorError(f"{shown!r} matches no axis; the nearest names are: {nearest(shown, known)}")
        found |= axes
    return found


def _axes_of_selector(structure: Structure, model: nn.Module, selector: Selector) -> Iterable[str]:
    if isinstance(selector, str) and selector in structure.axis:
        return [selector]
    if isinstance(selector, str) and selector in get_args(Role):
        return [axis.name for axis in structure.axes if axis.role == selector]
    if selector in ("first", "last"):
        return _at_the_end(structure, first=selector == "first")
    if isinstance(selector, str) and selector.startswith("re:"):
        _demand_pattern(selector)
    paths = [path for path, module in model.named_modules() if _is_meant(path, module, selector)]
    below = tuple(f"{path}." for path in paths)
    return [axis for name in structure.tensors if name.startswith(below) for axis in _output_axes(structure, name)]


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


def _is_meant(path: str, module: nn.Module, selector: Selector) -> bool:
    if not isinstance(selector, str):
        return isinstance(module, selector)
    if selector.startswith("re:"):
        return bool(path) and re.search(selector[3:], path) is not None
    return bool(path) and selector in (path, type(module).__name__)


def _output_axes(structure: Structure, name: str) -> Iterable[str]:
    spec = structure.tensors[name]
    return axes_of(spec.dims[0]) if spec.dims else ()
