"""`secateur inspect`: what may be cut, what may not, and why, on one screen."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.options import ModelOptions
from secateur.cli.outcome import Outcome
from secateur.cli.tables import shown, table

if TYPE_CHECKING:
    from secateur.cli.opening import Opened
    from secateur.spec import Axis, Pin, Structure


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Options of `inspect`."""

    why: Annotated[bool, Option("--why", help="Every axis that stays whole, with place, reason and cure.")] = False
    format: Annotated[
        str, Option(help="text; json for the whole structure record; keti for the base schema, to edit and give back.")
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

    if options.format not in ("text", "json", "keti"):
        raise SecateurError(f"--format {options.format}: expected text, json or keti")
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
        return Outcome(json.loads(structure.to_json()), structure.to_json(indent=1))
    summary = _summary(structure, opened)
    return Outcome(summary, _text(summary, structure, why=options.why))


def _differences(file: Path, structure: Structure) -> Outcome:
    from secateur.structure.schema import base_schema, diff_schemas, prefix_of, read_schema

    given = read_schema(file)
    found = diff_schemas(base_schema(structure, prefix=prefix_of(given, structure)), given)
    lines = [str(difference) for difference in found] or ["nothing differs"]
    return Outcome({"differences": [asdict(difference) for difference in found]}, "\n".join(lines))


def _written(outcome: Outcome, path: Path) -> Outcome:
    from secateur.spec import SecateurError

    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(f"{outcome.text}\n")
        temporary.replace(path)
    except OSError as error:
        raise SecateurError(f"cannot write {path}: {error.strerror}; choose another --out") from error
    return replace(outcome, text=f"written to {path}")


def _summary(structure: Structure, opened: Opened) -> dict[str, Any]:
    from secateur.cost import network_costs

    chosen = [axis for axis in structure.axes if axis.chosen]
    return {
        "model": opened.source["name"],
        "class": structure.model,
        **network_costs(structure),
        "axes": len(structure.axes),
        "prunable_axes": len(structure.prunable),
        "prunable_share": structure.prunable_share(),
        "chosen": dict(Counter(axis.role for axis in chosen)),
        "on_request": dict(Counter(axis.role for axis in structure.prunable if not axis.chosen)),
        "whole": [_reason(code, axes) for code, axes in _by_code(structure).items()],
        "ties": [{"axes": [name for name, _ in tie.members], "reason": tie.reason} for tie in structure.ties],
        "notes": list(structure.notes),
    }


def _whole(structure: Structure) -> list[tuple[Axis, Pin]]:
    return [(axis, axis.pin) for axis in structure.axes if axis.pin is not None]


def _by_code(structure: Structure) -> dict[str, list[tuple[Axis, Pin]]]:
    """Axes that stay whole by reason code, the commonest first."""
    found: dict[str, list[tuple[Axis, Pin]]] = {}
    for axis, pin in _whole(structure):
        found.setdefault(pin.code, []).append((axis, pin))
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def _reason(code: str, axes: list[tuple[Axis, Pin]]) -> dict[str, Any]:
    example, pin = axes[0]
    return {
        "code": code,
        "count": len(axes),
        "example": example.name,
        "detail": pin.detail,
        "where": pin.where,
        "cure": next((pin.cure for _, pin in axes if pin.cure), ""),
    }


def _text(summary: dict[str, Any], structure: Structure, *, why: bool) -> str:
    keys = ("param_count", "macs", "size_bytes", "activation_bytes")
    lines = [
        f"{summary['model']} ({summary['class']})",
        table([(key, shown(summary[key])) for key in keys]),
        "",
        f"{summary['axes']} axes, {summary['prunable_axes']} may be cut; {summary['prunable_share']:.1%} of the "
        "parameters touch one of these",
        f"cut by default: {_counted(summary['chosen'])}; on request (--granularity): {_counted(summary['on_request'])}",
    ]
    lines += [f"tied: {_few(tie['axes'])}: {tie['reason']}" for tie in summary["ties"]]
    lines += ["", "what stays whole, and why:"] if summary["whole"] else []
    lines += [_every(axis, pin) for axis, pin in _whole(structure)] if why else _grouped(summary["whole"])
    lines += [f"note: {text}" for text in summary["notes"]]
    return "\n".join(lines)


def _counted(roles: dict[str, int]) -> str:
    return ", ".join(f"{count} {role}" for role, count in roles.items()) or "none"


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _grouped(reasons: list[dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for reason in reasons:
        where = f" ({reason['where']})" if reason["where"] else ""
        lines.append(f"  {reason['code']} x {reason['count']}: {reason['example']}: {reason['detail']}{where}")
        if reason["cure"]:
            lines.append(f"    cure: {reason['cure']}")
    return lines


def _every(axis: Axis, pin: Pin) -> str:
    where = f" ({pin.where})" if pin.where else ""
    cure = f"; cure: {pin.cure}" if pin.cure else ""
    return f"  {axis.name} [{axis.size}] {pin.code}: {pin.detail}{where}{cure}"
