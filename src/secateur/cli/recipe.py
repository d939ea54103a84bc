"""Recipes: the options of a verb in a YAML file, and the resolved ones beside each result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from secateur.cli.options import Common
from secateur.spec import SecateurError
from secateur.spec.errors import nearest
from secateur.spec.saved import RECIPE

O = TypeVar("O", bound=Common)  # noqa: E741
FILE_NAME = RECIPE
OF_THE_CALL = ("recipe", "json")
"""Options that say how to call, not what to do."""


def resolved(verb: str, options: type[O], explicit: Mapping[str, Any]) -> O:
    """The options of one run: those given explicitly, then those of the recipe, then the defaults.

    Raises SecateurError for a recipe that cannot be read, an unknown key or a value of the wrong kind.
    """
    path = explicit.get("recipe")
    values = {} if path is None else _read(path, verb, options)
    try:
        return TypeAdapter(options).validate_python({**values, **explicit})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(_option_name(str(step)) for step in first["loc"])
        raise SecateurError(f"{path}: {place}: {first['msg']}, got {first['input']!r}") from error


def as_recipe(verb: str, settings: Common) -> str:
    """The resolved options as a recipe that does the same again."""
    values = {_option_name(name): _plain(value) for name, value in as_record(settings).items()}
    return f"# secateur {verb} --recipe {FILE_NAME}\n" + yaml.safe_dump(values, sort_keys=False)


def as_record(settings: Common) -> dict[str, Any]:
    """The options that have a value, by field name."""
    given = asdict(settings)
    return {name: _plain(value) for name, value in given.items() if name not in OF_THE_CALL and value not in (None, [])}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _option_name(field_name: str) -> str:
    return field_name.replace("_", "-")


def _read(path: Path, verb: str, options: type[Common]) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SecateurError(f"cannot read the recipe {path}: {error}") from error
    if not isinstance(found, dict):
        raise SecateurError(f"{path}: a recipe maps option names to values, for example `criterion: l1`")
    known = {_option_name(field.name): field.name for field in fields(options) if field.name not in OF_THE_CALL}
    hints = get_type_hints(options)
    values: dict[str, Any] = {}
    for key, value in found.items():
        name = _option_name(str(key))
        if name not in known:
            raise SecateurError(
                f"{path}: {verb} has no option {key!r}; did you mean: {nearest(name, list(known))}? "
                f"secateur {verb} --help lists them all"
            )
        one_of_several = hints[known[name]] == list[str] and not isinstance(value, list)
        values[known[name]] = [value] if one_of_several else value
    return values
