"""`secateur unpack`: the folder that a container was made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from secateur.cli.options import Common
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Options of `unpack`."""

    file: Annotated[Path | None, Argument(metavar="FILE", help="What secateur pack wrote.")] = None
    out: Annotated[
        Path | None, Option("--out", "-o", metavar="DIR", help="Folder for the files, written whole or not at all.")
    ] = None
    delta: Annotated[
        Path | None, Option(metavar="BASE", help="The folder or container that it was packed against.")
    ] = None
    trust_size: Annotated[
        bool, Option("--trust-size", help="Let it take more than 64 MiB and a thousand times its own bytes.")
    ] = False


def run(options: Options) -> Outcome:
    """Restore the folder that a container was made of; every file is checked against its hash."""
    from secateur.spec import StoreError
    from secateur.store.packed import unpack_folder

    if options.file is None or options.out is None:
        raise StoreError("name a container and a folder: secateur unpack model.sct -o DIR")
    manifest = unpack_folder(options.file, options.out, base=options.delta, trust_size=options.trust_size)
    exact = manifest.is_exact
    record = {
        "out": str(options.out),
        "files": {file.name: file.size for file in manifest.files},
        "exact": exact,
    }
    kind = "every bit as it was" if exact else "with the rounded values that it was packed with"
    return Outcome(record, f"{len(manifest.files)} files, {manifest.size_bytes:,} bytes in {options.out}, {kind}")
