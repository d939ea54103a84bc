"""Taking children out of `Sequential` and `ModuleList`, and what the model's Python holds for each of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import reduce

from torch import nn

from secateur.spec import Row


def remove_children(model: nn.Module, paths: Collection[str], rows: Sequence[Row] = ()) -> None:
    """Take these children of a `Sequential` or `ModuleList` out of the model.

    Those that stay move up, as in a Python list; children with names of their own keep them. Integers in which every
    child holds its place (`layer_idx`) are set to the new one, and rows lose the entries of those that go.
    """
    gone: dict[str, set[str]] = {}
    for path in paths:
        parent, _, name = path.rpartition(".")
        gone.setdefault(parent, set()).add(name)
    for parent, names in gone.items():
        container = model.get_submodule(parent)
        kept = [place for place, (name, _) in enumerate(container.named_children()) if name not in names]
        _keep_children(container, kept)
        for row in rows:
            if row.list == parent:
                _keep_entries(model, row, kept)


def _keep_children(container: nn.Module, kept: Sequence[int]) -> None:
    children = list(container.named_children())
    numbered = [name for name, _ in children] == [str(place) for place in range(len(children))]
    places = list(_places([child for _, child in children]))
    for name, _ in children:
        delattr(container, name)
    for place, (name, child) in enumerate(children[number] for number in kept):
        container.add_module(str(place) if numbered else name, child)
        for path, attribute in places:
            setattr(child.get_submodule(path), attribute, place)


def _places(children: Sequence[nn.Module]) -> Iterator[tuple[str, str]]:
    """(path below the child, attribute) of each integer in which every child holds its place."""
    below = [dict(child.named_modules()) for child in children]
    for path, module in below[0].items():
        for attribute in vars(module):
            held = [vars(modules[path]).get(attribute) if path in modules else None for modules in below]
            if len(held) > 1 and all(type(value) is int and value == place for place, value in enumerate(held)):
                yield path, attribute


def _keep_entries(model: nn.Module, row: Row, kept: Sequence[int]) -> None:
    *inner, last = row.name.split(".")
    held = vars(reduce(getattr, inner, model.get_submodule(row.module)))
    held[last] = [held[last][place] for place in kept]
