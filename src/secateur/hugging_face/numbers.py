"""The whole numbers of a configuration, each by its path: `("text_config", "hidden_size")`, `("hidden_sizes", 2)`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]
Values = Mapping[Path, int]

TOKENS_AND_CLASSES = ("_token_id", "_token_index", "_token_ids", "id2label", "label2id")
"""Endings of entries that number tokens and classes: no size follows them."""
LOOKED_UP = ("head_dim",)
"""What many classes read where a configuration has it, without their own configuration having it."""


def numbers_of(config: Mapping[str, Any]) -> dict[Path, int]:
    """Every whole number above zero, in nested configurations and lists too."""
    return {path: value for path, value in _entries(config) if type(value) is int and value > 0}


def unset_in(config: Mapping[str, Any]) -> list[Path]:
    """Entries that hold nothing and may take a number: those that are None, and those that classes look up."""
    absent = [
        (*path[:-1], name)
        for path, _ in _entries(config)
        for name in LOOKED_UP
        if path[-1] == "model_type" and number_at(config, (*path[:-1], name)) is None
    ]
    return list(dict.fromkeys([*(path for path, value in _entries(config) if value is None), *absent]))


def number_at(config: Mapping[str, Any], path: Path) -> int | None:
    """The number there; None where the configuration holds nothing."""
    holder: Any = config
    for step in path[:-1]:
        holder = holder[step]
    return holder.get(path[-1]) if isinstance(holder, Mapping) else holder[path[-1]]


def with_numbers(config: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """The configuration with other numbers at these paths."""
    made = copy.deepcopy(dict(config))
    for path, value in values.items():
        holder: Any = made
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = value
    return made


def shown(path: Path) -> str:
    """`text_config.hidden_size`, `hidden_sizes[2]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _entries(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and not key.endswith(TOKENS_AND_CLASSES):
                yield from _entries(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _entries(item, (*path, index))
    else:
        yield path, value
