"""`secateur inspect`: what may be cut, what may not, and why, on one screen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.drawing import drawn
from secateur.cli.options import ModelOptions
from secateur.cli.outcome import Outcome
from secateur.cli.overview import head, overview, screen, whole

if TYPE_CHECKING:
    from secateur.cli.opening import Opened
    from secateur.spec import Axis, Pin, Structure

FORMATS = ("text", "json", "dot", "keti")


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Options of `inspect`."""

    why: Annotated[bool, Option("--why", help="Every axis that stays whole, with place, reason and cure.")] = False
    format: Annotated[
        str,
        Option(
            help="text; json for the whole structure, with the places of every axis; dot for Graphviz to draw; keti "
            "for the base schema, to edit and give back."
        ),
    ] = "text"
    prefix: Annotated[str | None, Option(help="Put before every name of the base schema, for example module.")] = None
    diff: Annotated[Path | None, Option(metavar="FILE", help="What this schema file changes in the base schema.")] = (
        None
    )
    out: Annotated[Path | None, Option(metavar="FILE", help="Write there instead of to stdout.")] = None


def run(options: Options) -> Outcome:
    """Show what may be cut, what may not, and why."""
    from secateur.cli.opening import look_up
    from secateur.structure import trace

    _demand_meaning(options)
    opened = look_up(options).build()
    structure = trace(opened.model, opened.inputs)
    outcome = _outcome(options, structure, opened)
    return outcome if options.out is None else _written(outcome, options.out)


def _demand_meaning(options: Options) -> None:
    """Raise SecateurError for options that say nothing together."""
    from secateur.spec import SecateurError

    if options.format not in FORMATS:
        raise SecateurError(f"--format {options.format}: expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if options.prefix is not None and options.format != "keti":
        raise SecateurError("--prefix is for the names of a base schema: add --format keti, or drop it")
    if options.diff is not None and (options.format != "text" or options.why):
        raise SecateurError("--diff prints differences alone: drop --format and --why")


def _outcome(options: Options, structure: Structure, opened: Opened) -> Outcome:
    from secateur.structure.schema import base_schema

    if options.diff is not None:
        return _differences(options.diff, structure)
    if options.format == "keti":
        schema = base_schema(structure, prefix=options.prefix or "")
        return Outcome(schema, json.dumps(schema, indent=2))
    if options.format == "json":
        complete = _complete(structure)
        return Outcome(complete, json.dumps(complete, indent=1))
    if options.format == "dot":
        graph = drawn(structure)
        return Outcome({"dot": graph}, graph)
    record = overview(structure, opened.source["name"])
    return Outcome(record, _every_axis(record, structure) if options.why else screen(record))


def _differences(file: Path, structure: Structure) -> Outcome:
    from secateur.structure.schema import base_schema, diff_schemas, prefix_of, read_schema

    given = read_schema(file)
    found = diff_schemas(base_schema(structure, prefix=prefix_of(given, structure)), given)
    lines = [str(difference) for difference in found] or ["nothing differs"]
    return Outcome({"differences": [asdict(difference) for difference in found]}, "\n".join(lines))


def _written(outcome: Outcome, path: Path) -> Outcome:
    from secateur.spec import SecateurError
    from secateur.spec.files import write_whole

    try:
        write_whole(path, f"{outcome.text}\n")
    except OSError as error:
        raise SecateurError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    return replace(outcome, text=f"written to {path}")


def _complete(structure: Structure) -> dict[str, Any]:
    """The structure as a record that `Structure.from_json` reads, with the places of each axis beside it."""
    from secateur.spec.meetings import places

    found: dict[str, list[tuple[str, int]]] = {axis.name: [] for axis in structure.axes}
    for axis, tensor, dim in places(structure):
        found[axis].append((tensor, dim))
    return {**json.loads(structure.to_json()), "places": found}


def _every_axis(record: Mapping[str, Any], structure: Structure) -> str:
    lines = [*head(record), "", "what stays whole, and why:", *(_why(axis, pin) for axis, pin in whole(structure))]
    return "\n".join([*lines, *(f"note: {text}" for text in structure.notes)])


def _why(axis: Axis, pin: Pin) -> str:
    where = f" ({pin.where})" if pin.where else ""
    cure = f"; cure: {pin.cure}" if pin.cure else ""
    return f"  {axis.name} [{axis.size}] {pin.code}: {pin.detail}{where}{cure}"
