"""`secateur export`: a network as a file that other runtimes read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from secateur.cli.options import ModelOptions
from secateur.cli.outcome import Outcome

if TYPE_CHECKING:
    from secateur.spec import ExportRecord, Port


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Options of `export`."""

    out: Annotated[Path | None, Option("--out", "-o", metavar="FILE", help="The file; its record is FILE.json.")] = None
    format: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="onnx, torch-export, openvino or executorch; what the ending of FILE says when not given.",
        ),
    ] = None
    opset: Annotated[int, Option(help="Version of ONNX's operators.")] = 20
    fixed: Annotated[
        bool, Option("--fixed", help="Fix the batch, and the length of texts, at those of one example.")
    ] = False


def run(options: Options) -> Outcome:
    """Export a network to ONNX and other formats, run the file again, and compare it with the network."""
    from secateur.cli.opening import look_up
    from secateur.spec import ExportError
    from secateur.store.exporting import EXPORTERS, ExportOptions, demand_free, export, format_of

    if options.out is None:
        raise ExportError("nowhere to write; name a file with --out, for example --out model.onnx")
    how = ExportOptions(options.format or format_of(options.out), options.opset, options.fixed, seed=options.seed)
    demand_free(options.out, EXPORTERS.get(str(how.format)))
    target = look_up(options)
    opened = target.build()
    came_from = {} if target.folder is None else {"folder": Path(str(options.model)).absolute().name}
    record = export(opened.model, opened.inputs, options.out, options=how, source={**opened.source, **came_from})
    return Outcome(_record(record, options.out), _text(record, options.out), verified=record.verification.ok)


def _record(record: ExportRecord, out: Path) -> dict[str, Any]:
    return {**asdict(record), "out": str(out)}


def _text(record: ExportRecord, out: Path) -> str:
    size_bytes = sum(record.size_bytes.values())
    proof = record.verification
    runs = " and ".join(
        ", ".join(f"{key} {run[key]}" for key in run if key in ("batch", "length")) for run in record.runs
    )
    state = "verified" if proof.ok else "NOT VERIFIED"
    return "\n".join(
        [
            f"reads  {_shown(record.inputs)}",
            f"gives  {_shown(record.outputs)}",
            *(f"note: {note}" for note in record.notes),
            f"{state}: run again on fresh inputs{f' ({runs})' if runs else ''}, it differs from the network by "
            f"{proof.relative_diff:.1e} of the output's scale" + (f" ({proof.detail})" if proof.detail else ""),
            f"{out}: {record.format}{''.join(f', {key} {value}' for key, value in record.details.items())}, "
            f"{size_bytes:,} bytes",
        ]
    )


def _shown(ports: tuple[Port, ...]) -> str:
    return "; ".join(f"{port.name} {port.dtype} ({', '.join(map(str, port.shape))})" for port in ports)
