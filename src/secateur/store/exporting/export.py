"""From a network to a file of another format, and the proof that the file computes what the network does."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.sparse import sparsity
from secateur.spec import ExportError, ExportRecord, SecateurError, StoreError, Verification, import_extra
from secateur.spec.files import sha256_of, write_whole
from secateur.store.environment import environment
from secateur.store.exporting.exporter import EXPORTERS, Exporter, Run, Written
from secateur.store.exporting.graph import LEAST, Flat, Graph, graph_of, quiet, reason
from secateur.store.exporting.inputs import BATCH, inputs_of, sizes_of
from secateur.structure.capture import normalise_inputs
from secateur.surgery.verify import compared, eval_outputs, tolerance_of

OPSET = 20
RECORD = ".json"
"""What the name of a record has after that of its file."""
OTHER_BATCH = 3
"""Batch of the second run; the first has that of the example."""
LIBRARIES = ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch")


@dataclass(frozen=True)
class ExportOptions:
    """How to export."""

    format: str | None = None
    """A name of `EXPORTERS`; what the file's suffix says when None."""
    opset: int = OPSET
    """Of ONNX."""
    fixed: bool = False
    """All sizes are those of the example inputs."""
    tolerance: float | None = None
    """Largest difference over the output's scale; what the parameters' type explains when None (1e-4 in single
    precision)."""
    seed: int = 0
    """Of the inputs on which the file is run."""


def export(
    model: nn.Module,
    example_inputs: Any,
    file: str | Path,
    *,
    options: ExportOptions | None = None,
    source: Mapping[str, Any] | None = None,
) -> ExportRecord:
    """Write the network in eval mode to a file, run the file on fresh random inputs, and write a record beside it.

    example_inputs: a tensor, a tuple of positional or a dict of keyword inputs of one forward. Tensors among them
    become the file's inputs, in that order; all else is fixed. The first size of every tensor is free (`batch`), and of
    texts (matrices of whole numbers) the second (`length`), as far as the network's code leaves them free.
    source: where the network came from, for the record, which is `FILE.json`.

    The file is written also where it computes something else: see `verification` of the record. Raises ExportError for
    a network that the format cannot say, MissingExtraError where a library is missing, StoreError where something else
    has the file's name; then nothing is written.
    """
    options = options or ExportOptions()
    file = Path(file)
    name = options.format or format_of(file)
    exporter = EXPORTERS.get(name)
    demand_free(file, exporter)
    for module in exporter.modules:
        import_extra(module, exporter.extra)
    with quiet(), tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=file.absolute().parent) as folder:
        made = Path(folder) / file.name
        inputs = normalise_inputs(example_inputs)
        flat = Flat(model, inputs)
        graph = graph_of(flat, inputs_of(model, inputs), () if options.fixed else exporter.free)
        written = _written(exporter, name, graph, made, options.opset)
        runs = tuple(_runs(flat, graph, written, options))
        files = sorted(Path(folder).iterdir(), key=lambda path: path == made)  # what the file needs is there first
        record = ExportRecord(
            format=name,
            model=f"{type(model).__module__}.{type(model).__qualname__}",
            source=dict(source or {}),
            environment={**environment(), **_versions()},
            notes=(*graph.notes, *written.notes, *_zeros(model)),
            details=written.details,
            **_ports(graph),
            **_hashes(files),
            **_proof(runs),
        )
        for path in files:
            path.replace(file.with_name(path.name))
    write_whole(record_path(file), record.to_json(indent=1))
    return record


def record_path(file: Path) -> Path:
    """Where the record of an exported file is."""
    return file.with_name(f"{file.name}{RECORD}")


def format_of(file: Path) -> str:
    """The format that the file's suffix says; raises ExportError where none does."""
    by_suffix = {EXPORTERS.get(name).suffix: name for name, _ in EXPORTERS.describe()}
    if file.suffix not in by_suffix:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in sorted(by_suffix.items()))
        raise ExportError(f"{file}: the name does not say the format; give a format, or one of the endings {known}")
    return by_suffix[file.suffix]


def demand_free(file: Path, exporter: Exporter) -> None:
    """Raise StoreError unless the file can be written: nothing of that name, or what was exported before."""
    if file.suffix != exporter.suffix:
        raise StoreError(f"{file}: files of this format end in {exporter.suffix}; name it {file.stem}{exporter.suffix}")
    if not file.absolute().parent.is_dir():
        raise StoreError(f"{file} cannot be written: {file.parent} is no folder; make it, or choose another file")
    if file.is_dir() or (file.exists() and not record_path(file).is_file()):
        raise StoreError(f"{file} exists and is no exported file with its record; choose another, or remove it")


def _written(exporter: Exporter, name: str, graph: Graph, file: Path, opset: int) -> Written:
    try:
        return exporter.write(graph, file, opset=opset)
    except SecateurError:
        raise
    except Exception as error:  # of whatever library converts the graph
        raise ExportError(
            f"the network cannot be said in {name}: {reason(error)}; replace that operator in the network's code, or "
            "take another format (secateur list exporters)"
        ) from error


def _runs(
    flat: Flat, graph: Graph, written: Written, options: ExportOptions
) -> Iterator[tuple[dict[str, int], Verification]]:
    """The sizes of each run, and how far the file is from the network there."""
    tolerance = tolerance_of(flat) if options.tolerance is None else options.tolerance
    generator = torch.Generator().manual_seed(options.seed)
    run: Run | None = None
    for sizes in _sizes_to_try(graph):
        tensors = [one.fresh(sizes, generator) for one in graph.inputs]
        try:
            run = run or written.open()
            got = run(tensors)
        except Exception as error:  # of whatever library runs the file
            yield sizes, Verification(math.inf, math.inf, False, tolerance, f"the file cannot be run: {reason(error)}")
        else:
            yield sizes, _difference(eval_outputs(flat, tuple(tensors)), got, tolerance)


def _difference(expected: list[Tensor], got: list[Tensor], tolerance: float) -> Verification:
    if len(expected) != len(got):
        detail = f"the file gives {len(got)} tensors, the network {len(expected)}"
        return Verification(math.inf, math.inf, False, tolerance, detail)
    return compared(expected, got, tolerance)


def _sizes_to_try(graph: Graph) -> Iterator[dict[str, int]]:
    """Those of the example, and where some are free others."""
    sizes = sizes_of(graph.inputs)
    yield sizes
    if sizes:
        yield {name: _other(name, size) for name, size in sizes.items()}


def _other(name: str, size: int) -> int:
    """Another size, which the file was not made with."""
    if name == BATCH:
        return OTHER_BATCH if size != OTHER_BATCH else OTHER_BATCH - 1
    return size - 3 if size - 3 >= LEAST[name] else size + 1


def _ports(graph: Graph) -> dict[str, Any]:
    reads, gives = graph.ports()
    return {"inputs": reads, "outputs": gives}


def _hashes(files: Sequence[Path]) -> dict[str, Any]:
    return {
        "sha256": {path.name: sha256_of(path) for path in files},
        "size_bytes": {path.name: path.stat().st_size for path in files},
    }


def _proof(runs: Sequence[tuple[dict[str, int], Verification]]) -> dict[str, Any]:
    """Every run, and the worst of them."""
    return {
        "verification": max((found for _, found in runs), key=lambda found: found.relative_diff),
        "runs": tuple({**sizes, **asdict(found)} for sizes, found in runs),
    }


def _zeros(model: nn.Module) -> Sequence[str]:
    share = sparsity(model)
    return [f"{share:.0%} of the weights are zero, and take as much room as the others"] if share > 0.01 else []


def _versions() -> dict[str, str]:
    """Of the libraries of formats, as far as they are installed."""
    found: dict[str, str] = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
