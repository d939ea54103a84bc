"""From a dataclass of options and a function to a verb of the command line.

Each field is one option: `round_to: Annotated[int, Option(help="...")] = 1` is `--round-to`. An option that is not
given is None on its way in, so that a recipe can fill it before the field's default does.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import MISSING, Field, fields
from inspect import Parameter, Signature
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from secateur.cli.options import Common, TrainingOptions
from secateur.cli.outcome import Outcome
from secateur.cli.processes import rank

O = TypeVar("O", bound=Common)  # noqa: E741
Task = Callable[[], Outcome]


def command_of(verb: str, options: type[O], run: Callable[[O], Outcome]) -> Callable[..., Task]:
    """The function that typer calls with one value per field; it returns the work, to be done outside of typer."""

    def parsed(**given: Any) -> Task:
        explicit = {name: value for name, value in given.items() if value not in (None, [])}
        return lambda: _work(verb, options, run, explicit)

    parsed.__name__ = verb
    parsed.__signature__ = Signature(list(_parameters(options)))  # type: ignore[attr-defined]
    return parsed


def _work(verb: str, options: type[O], run: Callable[[O], Outcome], explicit: Mapping[str, Any]) -> Outcome:
    from secateur.cli.recipe import resolved
    from secateur.cli.session import UNTIL_DONE, prepare

    settings = resolved(verb, options, explicit)
    if rank() > 0 and not issubclass(options, TrainingOptions):
        return Outcome({}, "")  # training alone is shared; all else the first process does
    with redirect_stdout(sys.stderr), UNTIL_DONE:
        prepare(settings)
        return run(settings)


def _parameters(options: type[Common]) -> Iterator[Parameter]:
    """The verb's own options first, those that all verbs share last."""
    hints = get_type_hints(options, include_extras=True)
    shared = {field.name for field in fields(Common)}
    for field in sorted(fields(options), key=lambda field: field.name in shared):
        kind, option = get_args(hints[field.name])
        shown = copy.copy(option)
        shown.help = f"{option.help}{_shown_default(field)}"
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, shown])


def _shown_default(field: Field[Any]) -> str:
    default = field.default
    return "" if default is MISSING or default is None or isinstance(default, bool) else f" [{default}]"
