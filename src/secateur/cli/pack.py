"""`secateur pack`: a saved folder as one small file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from typer import Argument, Option

from secateur.cli.options import Common
from secateur.cli.outcome import Outcome

if TYPE_CHECKING:
    from secateur.store.packed import ArrayRecord, Manifest


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Options of `pack`."""

    folder: Annotated[
        Path | None,
        Argument(
            metavar="FOLDER",
            help="A folder that Secateur saved, a .safetensors file alone, or a container, to pack otherwise.",
        ),
    ] = None
    out: Annotated[Path | None, Option("--out", "-o", metavar="FILE.sct", help="The container.")] = None
    encoding: Annotated[
        str,
        Option(
            metavar="NAME",
            help="How to say which weights are there, wherever it can be said so: auto (the smallest), dense, bitmask, "
            "delta, gaps, n:m, block, csr.",
        ),
    ] = "auto"
    values: Annotated[
        str | None,
        Option(metavar="TYPE", help="Round the weights: fp16, bf16, int8. Every bit stays as it is when not given."),
    ] = None
    delta: Annotated[
        Path | None,
        Option(metavar="BASE", help="Store only what differs from this folder or container; unpack needs it, too."),
    ] = None
    no_entropy: Annotated[bool, Option("--no-entropy", help="Do not compress the streams.")] = False


def run(options: Options) -> Outcome:
    """Pack a saved folder into one file: each tensor in the smallest of several encodings, bit for bit."""
    from secateur.cli.session import unpacked
    from secateur.spec import StoreError
    from secateur.store.packed import PackOptions, ValueType, pack_folder, pack_weights

    if options.folder is None or options.out is None:
        raise StoreError("name a folder and a file: secateur pack FOLDER -o model.sct")
    if options.out.is_dir():
        raise StoreError(f"--out {options.out} is a folder; name a file, for example {options.out / 'model.sct'}")
    how = PackOptions(options.encoding, cast("ValueType | None", options.values), not options.no_entropy)
    if options.folder.suffix == ".safetensors":
        manifest = pack_weights(options.folder, options.out, options=how, base=options.delta)
    else:
        folder = unpacked(options.folder) if options.folder.is_file() else options.folder
        manifest = pack_folder(folder, options.out, options=how, base=options.delta)
    size_bytes = options.out.stat().st_size
    record = {
        "out": str(options.out),
        "size_bytes": size_bytes,
        "unpacked_bytes": manifest.size_bytes,
        "exact": all(array.value_type is None for array in manifest.arrays),
        "base": manifest.base_sha256,
        "tensors": [_row(manifest, array) for array in manifest.arrays if array.members[0].name is not None],
    }
    return Outcome(record, _text(record))


def _row(manifest: Manifest, array: ArrayRecord) -> dict[str, Any]:
    """One tensor, or several small ones together."""
    names = [str(manifest.key(member)) for member in array.members]
    return {
        "names": names,
        "shape": list(array.shape),
        "dtype": array.members[0].dtype,
        "encoding": array.encoding,
        "parameters": dict(array.parameters),
        "values": array.value_type,
        "reference": None if array.reference is None else array.reference.kind,
        "density": array.kept / array.words if array.words else 0.0,
        "dense_bytes": array.size_bytes,
        "size_bytes": array.size,
        "bits_per_element": 8 * array.size / array.words if array.words else 0.0,
    }


def _text(record: dict[str, Any]) -> str:
    from secateur.cli.tables import table

    rows = [("tensor", "encoding", "density", "bytes", "of dense", "bits/element")]
    for row in record["tensors"]:
        names = row["names"]
        rows.append(
            (
                names[0] if len(names) == 1 else f"{len(names)} small ones ({names[0]}, ...)",
                " ".join(filter(None, (_encoding(row), row["values"], _REFERENCES[row["reference"]]))),
                f"{row['density']:.1%}",
                f"{row['size_bytes']:,}",
                f"{row['size_bytes'] / row['dense_bytes']:.1%}" if row["dense_bytes"] else "",
                f"{row['bits_per_element']:.2f}",
            )
        )
    size, dense = record["size_bytes"], record["unpacked_bytes"]
    kind = "every bit as it was" if record["exact"] else "ROUNDED values"
    return f"{table(rows)}\n{record['out']}: {size:,} of {dense:,} bytes, {dense / size:.1f} times smaller, {kind}"


_REFERENCES = {None: "", "base": "as the base", "zeros": "as the zeros"}


def _encoding(row: dict[str, Any]) -> str:
    parameters = row["parameters"]
    if row["reference"] is not None and not row["density"]:
        return "same"
    if row["encoding"] == "n:m":
        return f"{parameters['n']}:{parameters['m']}"
    if row["encoding"] == "block":
        return f"block {parameters['rows']}x{parameters['columns']}"
    return f"delta {parameters['bits']} bits" if row["encoding"] == "delta" else row["encoding"]
