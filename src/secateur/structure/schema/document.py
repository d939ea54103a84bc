"""Schemas as files: strict reading, the JSON Schema that describes them, and what differs between two."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, RootModel, ValidationError

from secateur.spec import SchemaError

Schema = Mapping[str, Sequence[str]]
"""Key `<layer>_out`, or `<layer>_out[<part>]`, -> names of members."""


def _distinct(names: list[str]) -> list[str]:
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is listed twice")
    return names


Key = Annotated[
    str,
    Field(
        pattern=r"^.*_out(\[.+\])?$",
        description="Output of a layer, or one part of it: an axis or a role such as heads or head_width.",
    ),
]
Member = Annotated[
    str,
    Field(
        min_length=1,
        description="<name>_bn of a norm, <name>_out of a producing layer, <name>_in of a consumer, or a parameter.",
    ),
]
Members = Annotated[list[Member], AfterValidator(_distinct), Field(json_schema_extra={"uniqueItems": True})]


class SchemaFile(RootModel[dict[Key, Members]]):
    """What leaves together in a network: each layer's output and the slices that go with it; [] keeps it whole."""

    model_config = ConfigDict(strict=True, title="Secateur schema", json_schema_extra={"additionalProperties": False})


def read_schema(source: str | Path | Schema) -> dict[str, list[str]]:
    """A schema from a JSON file or from a mapping; raises SchemaError naming what is malformed."""
    if isinstance(source, Mapping):
        return _validated({key: list(members) for key, members in source.items()}, "the schema")
    try:
        found = json.loads(Path(source).read_text(), object_pairs_hook=_without_repetition)
    except SchemaError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # not JSON, numbers of thousands of digits, deep nesting
        raise SchemaError(f"cannot read the schema {source}: {error}") from error
    return _validated(found, str(source))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise SchemaError(f"the schema holds key {key!r} twice; merge the two")
        found[key] = value
    return found


def _validated(found: Any, place: str) -> dict[str, list[str]]:
    try:
        return SchemaFile.model_validate(found).root
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = " of ".join(repr(step) for step in reversed(first["loc"]) if step != "[key]") or "the top level"
        raise SchemaError(
            f"{place}: at {where}: {first['msg']}, got {first['input']!r}; expected a JSON object of "
            '"<layer>_out": [members], as secateur inspect --format keti writes it'
        ) from error


def json_schema() -> str:
    """The JSON Schema of schema files, as text."""
    return json.dumps(SchemaFile.model_json_schema(), indent=2) + "\n"


@dataclass(frozen=True)
class Difference:
    """One key in which two schemas differ."""

    key: str
    removed: tuple[str, ...] = ()
    """Members that the second one lacks."""
    added: tuple[str, ...] = ()
    """Members that only the second one has."""
    only_in: str = ""
    """`first` or `second` where the other lacks the key."""

    def __str__(self) -> str:
        if self.only_in:
            return f"{'-' if self.only_in == 'first' else '+'} {self.key}"
        return f"{self.key}: {' '.join([f'-{name}' for name in self.removed] + [f'+{name}' for name in self.added])}"


def diff_schemas(a: Schema, b: Schema) -> tuple[Difference, ...]:
    """What has to change in `a` to say what `b` says, key by key; the order of members says nothing."""
    found: list[Difference] = []
    for key in dict.fromkeys([*a, *b]):
        if key not in a or key not in b:
            only = "first" if key in a else "second"
            removed, added = (tuple(a[key]), ()) if key in a else ((), tuple(b[key]))
            found.append(Difference(key, removed, added, only))
        elif set(a[key]) != set(b[key]):
            removed = tuple(name for name in a[key] if name not in b[key])
            added = tuple(name for name in b[key] if name not in a[key])
            found.append(Difference(key, removed, added))
    return tuple(found)
