"""The numbers that a model's Python holds: attributes of its modules, and of configuration objects in these."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import reduce
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

from secateur.structure.sizeint import SizeInt

Key = tuple[str, str, int | None]
"""Module path, attribute (`config.n_head` for one of an object that the module holds), index in a tuple or list."""

_MOST_NESTED = 3


Holder = tuple[str, str, Any]
"""Module path, prefix of the attributes' names, object: a module, or a configuration object that it holds."""


def remember_origins(holders: Iterable[Holder]) -> None:
    """Let the integers in the attributes of these remember the attribute they came from."""
    for path, prefix, holder in holders:
        held = vars(holder)
        for name, value in list(held.items()):
            key = f"{prefix}{name}"
            if type(value) is int and value > 1:
                held[name] = SizeInt(value, ("attribute", path, key, None))
            elif isinstance(value, tuple | list) and _is_sizes(value):
                held[name] = type(value)(_remembered(path, key, value))


def own_holders(copy: nn.Module, original: nn.Module) -> Iterator[Holder]:
    """Each module and configuration object of the copy; not one that refuses to be copied: it is the user's own."""
    foreign = {id(holder) for _, _, holder in _holders(original)}
    return (found for found in _holders(copy) if id(found[2]) not in foreign)


def read_attribute(model: nn.Module, key: Key) -> int:
    """The number under the key."""
    path, name, index = key
    value: Any = reduce(getattr, name.split("."), model.get_submodule(path))
    return int(value if index is None else value[index])


def write_attribute(model: nn.Module, key: Key, size: int) -> None:
    """Set the number under the key."""
    path, name, index = key
    *inner, last = name.split(".")
    holder = reduce(getattr, inner, model.get_submodule(path))
    if index is not None:
        values = getattr(holder, last)
        items = list(values)
        items[index] = size
        size = type(values)(items)
    if inner:
        vars(holder)[last] = size  # frozen and checking classes allow no other way
    else:
        setattr(holder, last, size)


def held_integers(model: nn.Module) -> Iterator[tuple[Key, int]]:
    """Every integer above one that the model's Python holds, with its key."""
    for path, prefix, holder in _holders(model):
        for name, value in vars(holder).items():
            if type(value) is int and value > 1:
                yield (path, f"{prefix}{name}", None), value
            elif isinstance(value, tuple | list) and _is_sizes(value):
                for index, item in enumerate(value):
                    if type(item) is int and item > 1:
                        yield (path, f"{prefix}{name}", index), item


def _holders(model: nn.Module) -> Iterator[Holder]:
    """As `own_holders`, each once."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        yield path, "", module
        yield from _configurations(path, "", module, seen)


def _configurations(path: str, prefix: str, holder: Any, seen: set[int]) -> Iterator[Holder]:
    for name, value in list(vars(holder).items()):
        if _is_configuration(value) and id(value) not in seen and prefix.count(".") < _MOST_NESTED:
            seen.add(id(value))
            inside = f"{prefix}{name}."
            yield path, inside, value
            yield from _configurations(path, inside, value, seen)


_PLAIN = frozenset((int, float, bool, str, type(None), dict, OrderedDict, list, tuple, set, torch.Size, SizeInt))


def _is_configuration(value: Any) -> bool:
    if type(value) in _PLAIN:
        return False
    if isinstance(value, nn.Module | torch.Tensor | Enum | type | FunctionType | MethodType | ModuleType | Mapping):
        return False
    return hasattr(value, "__dict__") and not type(value).__module__.startswith("torch.")


def _is_sizes(values: Sequence[Any]) -> bool:
    return type(values) in (tuple, list, torch.Size) and any(type(item) is int and item > 1 for item in values)


def _remembered(path: str, name: str, values: Sequence[Any]) -> list[Any]:
    return [
        SizeInt(item, ("attribute", path, name, index)) if type(item) is int and item > 1 else item
        for index, item in enumerate(values)
    ]
