"""Function caches in a model's code, which must not carry tensors of a capture into a later run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

_Cache = functools._lru_cache_wrapper  # pyright: ignore[reportPrivateUsage]


def forget_cached(model: nn.Module) -> None:
    """Empty the `functools` caches of the classes and source modules that the model is made of.

    A function that caches a tensor it made during a capture would hand it, without values, to the user's next call.
    """
    for cache in _caches_of(model):
        cache.cache_clear()


def _caches_of(model: nn.Module) -> Iterator[_Cache[Any]]:
    classes = {kind for module in model.modules() for kind in type(module).__mro__ if not _is_torch(kind.__module__)}
    sources = {kind.__module__ for kind in classes if kind.__module__ in sys.modules}
    for holder in [*classes, *(sys.modules[name] for name in sources)]:
        for value in list(vars(holder).values()):
            yield from _caches_in(value)


def _is_torch(module: str) -> bool:
    return module == "builtins" or module.split(".")[0] == "torch"


def _caches_in(value: Any) -> Iterator[_Cache[Any]]:
    function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    if isinstance(function, _Cache):
        yield function
    for cell in getattr(function, "__closure__", None) or ():
        try:
            inside = cell.cell_contents
        except ValueError:  # a cell that is not filled yet
            continue
        if isinstance(inside, _Cache):
            yield inside
