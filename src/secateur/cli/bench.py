"""`secateur bench`: networks side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from secateur.cli.options import Common
from secateur.cli.outcome import Outcome

if TYPE_CHECKING:
    from secateur.bench import Entry
    from secateur.spec import BenchRecord, BenchRow


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Options of `bench`."""

    models: Annotated[
        list[str],
        Argument(metavar="MODELS", help="Networks as other verbs take them, saved folders, and exported .onnx files."),
    ] = field(default_factory=list)
    engines: Annotated[
        list[str],
        Option(metavar="NAME[,NAME...]", help="What runs them: eager, compile, onnxruntime; eager when not given."),
    ] = field(default_factory=list)
    batch: Annotated[int, Option(help="Samples of one forward.")] = 1
    repeats: Annotated[int, Option(help="Rounds, in each of which every network runs once in every engine.")] = 30
    factory: Annotated[
        str | None, Option(metavar="package.module:factory", help="Builds the originals of saved folders.")
    ] = None
    input_shape: Annotated[str | None, Option(metavar="C,H,W", help="Shape of one image.")] = None
    out: Annotated[Path | None, Option(metavar="DIR", help="Folder for the record, which report shows.")] = None


def run(options: Options) -> Outcome:
    """Compare networks side by side: latency, throughput and memory, in PyTorch, compiled, or in ONNX Runtime."""
    from secateur.bench import ENGINES, bench
    from secateur.cli.recipe import as_record
    from secateur.cli.saving import demand_own
    from secateur.cli.session import note
    from secateur.spec import ModelError
    from secateur.spec.bench import BENCH

    engines = [name for given in options.engines or ["eager"] for name in given.split(",")]
    for name in engines:
        ENGINES.get(name)
    if options.device != "cpu" and "onnxruntime" in engines:
        raise ModelError(f"onnxruntime runs on the CPU here: leave it out of --engines, or --device {options.device}")
    if not options.models:
        raise ModelError("nothing to measure; name networks, for example: secateur bench resnet20 runs/small")
    demand_own(options.out, BENCH, "bench")
    record = bench(
        [_entry(model, options) for model in options.models],
        engines,
        batch=options.batch,
        repeats=options.repeats,
        device=options.device,
        options=as_record(options),
        tell=note,
    )
    text = _text(record)
    if options.out is not None:
        _save(options, record, options.out)
        text += f"\nsaved to {options.out}"
    return Outcome({**asdict(record), "out": None if options.out is None else str(options.out)}, text)


def _entry(model: str, options: Options) -> Entry:
    from secateur.bench import Network, OnnxFile
    from secateur.cli.opening import look_up
    from secateur.cli.options import ModelOptions
    from secateur.structure.capture import inputs_on, normalise_inputs

    if model.endswith(".onnx"):
        return OnnxFile(model, Path(model))
    factory = options.factory if Path(model).exists() else None
    which = ModelOptions(
        model=model, factory=factory, input_shape=options.input_shape, seed=options.seed, device=options.device
    )
    opened = look_up(which).build()
    return Network(model, opened.model, inputs_on(normalise_inputs(opened.inputs), options.device))


def _save(options: Options, record: BenchRecord, out: Path) -> None:
    from secateur.cli.recipe import FILE_NAME, as_recipe
    from secateur.spec.bench import BENCH
    from secateur.spec.files import write_whole

    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / FILE_NAME, as_recipe("bench", options))
    write_whole(out / BENCH, record.to_json(indent=1) + "\n")


def _text(record: BenchRecord) -> str:
    from secateur.cli.tables import table

    first: dict[str, BenchRow] = {}
    rows = [("", "engine", "latency ms", "IQR", "samples/s", "weights MB", "peak MB", "speed-up", "of the memory")]
    for row in record.rows:
        base = first.setdefault(row.engine, row)
        rows.append(
            (
                row.model,
                row.engine,
                f"{row.latency_ms:.3f}",
                f"{row.iqr_ms:.3f}",
                f"{row.throughput:,.1f}",
                f"{row.size_bytes / 1e6:.2f}",
                "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e6:.2f}",
                f"{row.speedup:.2f} ± {row.speedup_iqr / 2:.2f}",
                _share(row, base),
            )
        )
    about = (
        f"batch {record.batch}, threads {record.threads}, device {record.device}, {record.repeats} rounds in turn; "
        "ratios are to the first network in the same engine"
    )
    return "\n".join([table(rows), about, *(f"note: {note}" for note in record.notes)])


def _share(row: BenchRow, base: BenchRow) -> str:
    if not row.peak_memory_bytes or not base.peak_memory_bytes:
        return "-"
    return f"{row.peak_memory_bytes / base.peak_memory_bytes:.0%}"
