"""Taking children out of `Sequential` and `ModuleList`."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn


def remove_children(model: nn.Module, paths: Collection[str]) -> None:
    """Take these children of a `Sequential` or `ModuleList` out of the model.

    Those that stay move up, as in a Python list; children with names of their own keep them. Integers in which every
    child holds its place (`layer_idx`) are set to the new one.
    """
    gone: dict[str, set[str]] = {}
    for path in paths:
        parent, _, name = path.rpartition(".")
        gone.setdefault(parent, set()).add(name)
    for parent, names in gone.items():
        _remove(model.get_submodule(parent), names)


def _remove(container: nn.Module, names: Collection[str]) -> None:
    children = dict(container.named_children())
    numbered = list(children) == [str(place) for place in range(len(children))]
    places = list(_places(list(children.values())))
    kept = [(name, child) for name, child in children.items() if name not in names]
    for name in children:
        delattr(container, name)
    for place, (name, child) in enumerate(kept):
        container.add_module(str(place) if numbered else name, child)
        for path, attribute in places:
            setattr(child.get_submodule(path), attribute, place)


def _places(children: list[nn.Module]) -> Iterator[tuple[str, str]]:
    """(path below the child, attribute) of each integer in which every child holds its place."""
    below = [dict(child.named_modules()) for child in children]
    for path, module in below[0].items():
        for attribute in vars(module):
            held = [vars(modules[path]).get(attribute) if path in modules else None for modules in below]
            if len(held) > 1 and all(type(value) is int and value == place for place, value in enumerate(held)):
                yield path, attribute
