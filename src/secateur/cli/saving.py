"""Results that are saved: the folder with its run record and the recipe that makes it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from secateur.cli.options import Common
from secateur.cli.recipe import FILE_NAME, as_recipe, as_record
from secateur.models import tokenizer_files
from secateur.spec import RunRecord, SecateurError, Verification
from secateur.store import demand_free, environment, save_folder


def demand_out(out: Path | None) -> Path:
    """The folder of `--out`, found free before any work is done."""
    if out is None:
        raise SecateurError("nowhere to save the result; name a folder with --out DIR")
    demand_free(out)
    return out


def save(
    verb: str,
    options: Common,
    model: nn.Module,
    *,
    out: Path,
    source: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    verification: Verification | None = None,
    stages: Sequence[Mapping[str, Any]] = (),
    notes: tuple[str, ...] = (),
) -> None:
    """Write the folder; a language model keeps the tokenizer that lay beside its original."""
    run = RunRecord(
        verb=verb,
        model=f"{type(model).__module__}.{type(model).__qualname__}",
        before=before,
        after=after,
        verification=verification,
        options=as_record(options),
        stages=tuple(stages),
        environment=environment(),
        notes=notes,
    )
    texts = {FILE_NAME: as_recipe(verb, options), **tokenizer_files(str(source.get("name", "")))}
    save_folder(model, out, run=run, source=source, texts=texts)


def demand_own(out: Path | None, file: str, what: str) -> None:
    """Raise StoreError where the folder of a result holds anything but an earlier one, which is told by a file."""
    from secateur.spec import StoreError

    if out is None or not out.exists():
        return
    visible = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else [out]
    if visible and not (out / file).is_file():
        raise StoreError(f"{out} exists and holds no earlier {what}; choose another --out, or remove it")


def demand_other(out: Path, model: str | None) -> None:
    """Raise StoreError when the result would replace the folder that the model is read from."""
    from secateur.spec import StoreError

    if model is not None and Path(model).is_dir() and out.exists() and out.samefile(model):
        raise StoreError(f"--out {out} is the folder that the model is read from; give another one")
