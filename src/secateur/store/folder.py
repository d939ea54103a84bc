"""Saved models: a folder with weights, the plans that shaped them, masks of single weights, the run, and a manifest
with a hash of each file.

Loading replays the plans on a fresh instance of the original model and fills in the weights: no pickle, nothing
executed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.hugging_face import config_of, describe, is_transformers_model, take_over_config
from secateur.sparse import as_tensors, masks_of, remember_masks
from secateur.sparse.masks import masked_parameters
from secateur.spec import ElementMasks, PlanError, RunRecord, StoreError
from secateur.spec.files import in_one_piece, sha256_of
from secateur.spec.saved import MANIFEST, PLAN, RUN, Manifest, Plans
from secateur.store.card import Facts, model_card
from secateur.store.history import history_of, remember_history, remember_runs, runs_of
from secateur.store.layouts import WEIGHTS, read_stock, read_weights, write_weights
from secateur.store.masks import read_masks, write_masks
from secateur.store.origin import find_origin
from secateur.store.replay import replay_
from secateur.structure import named_tensors
from secateur.structure.freeze import fingerprint

CARD = "README.md"
MOST_CLASSES, LARGEST_SIDE = 10**6, 10**4
"""Beyond these a manifest does not say how its model was built: it asks for memory."""


def save_folder(
    model: nn.Module,
    directory: str | Path,
    *,
    run: RunRecord | None = None,
    source: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Path:
    """Save a model with everything that `load` needs; the folder appears whole or not at all. Returns its path.

    texts: contents of further files by name.
    A folder of that name is replaced if Secateur wrote it; anything else there raises StoreError.
    """
    target = Path(directory)
    demand_free(target)
    with in_one_piece(target) as temporary:
        _write(temporary, model, run, dict(source or {}), dict(texts or {}))
    return target


def demand_free(target: Path) -> None:
    """Raise StoreError unless a model can be saved there: nothing, an empty folder, or one that Secateur wrote."""
    above = next(parent for parent in target.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise StoreError(f"{target} cannot be made: {above} is no folder that can be written to; choose another --out")
    if target.is_dir() and not any(target.iterdir()):
        return
    if not target.exists():
        return
    try:
        known = {MANIFEST, *Manifest.from_json(_limited(target / MANIFEST, 1 << 24)).sha256}
    except (OSError, StoreError) as error:
        raise StoreError(
            f"{target} exists and is no folder that Secateur saved; choose another --out, or remove it"
        ) from error
    others = sorted(path.name for path in target.iterdir() if path.name not in known)
    if others:
        raise StoreError(
            f"{target} would be replaced, and holds {', '.join(others[:3])} that Secateur did not save there; move "
            "that away, or choose another --out"
        )


def _write(
    folder: Path, model: nn.Module, run: RunRecord | None, source: dict[str, Any], texts: dict[str, str]
) -> None:
    layout, own_source = write_weights(model, folder)
    source = {**source, **own_source} or find_origin(model, history_of(model))
    (folder / PLAN).write_text(Plans(history_of(model)).to_json())
    masks = masks_of(model)
    if masks is not None:
        _demand_zeros(model, masks, "the model")
        write_masks(masks, folder)
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    record = replace(run if run is not None else RunRecord("save", name), past=runs_of(model))
    (folder / RUN).write_text(record.to_json(indent=1))
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    hashes = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    facts = Facts(
        kind=type(model),
        source=source,
        plans=history_of(model),
        masks=masks,
        sha256=hashes,
        from_pretrained=layout == "transformers",
    )
    (folder / CARD).write_text(model_card(record, facts), encoding="utf-8")
    hashes[CARD] = sha256_of(folder / CARD)
    for file in hashes:
        (folder / file).chmod((folder / PLAN).stat().st_mode)  # weights as readable as the rest
    sizes = {file: (folder / file).stat().st_size for file in hashes}
    manifest = Manifest(name, fingerprint(named_tensors(model)), hashes, sizes, source, layout)
    (folder / MANIFEST).write_text(manifest.to_json(indent=1))


def read_manifest(directory: str | Path) -> Manifest:
    """The folder's manifest; raises StoreError when the folder is no saved model, is incomplete, or was changed."""
    folder = Path(directory)
    if not folder.is_dir():
        raise StoreError(f"{folder} is no folder; give one that Secateur saved")
    if not (folder / MANIFEST).is_file():
        raise StoreError(f"{folder} holds no {MANIFEST}, so it is no folder that Secateur saved")
    manifest = Manifest.from_json(_limited(folder / MANIFEST, 1 << 24))
    for file in {WEIGHTS, PLAN, RUN, *manifest.sha256}:
        path = folder / file
        if Path(file).name != file:
            raise StoreError(
                f"{folder / MANIFEST} names {file!r}, which is no file of the folder; copy the folder again"
            )
        if file not in manifest.sha256 or not path.is_file():
            raise StoreError(f"{folder} is incomplete: {file} is missing; copy the whole folder again")
        if path.stat().st_size != manifest.size_bytes.get(file):
            raise StoreError(
                f"{path} has {path.stat().st_size} bytes, expected {manifest.size_bytes.get(file)}: it is truncated or "
                "was changed; copy the folder again"
            )
        if sha256_of(path) != manifest.sha256[file]:
            raise StoreError(f"{path} was changed after it was saved (its sha256 differs); copy the folder again")
    _demand_plausible(folder, manifest.source)
    return manifest


def _demand_plausible(folder: Path, source: Mapping[str, Any]) -> None:
    num_classes, shape = source.get("num_classes"), source.get("input_shape")
    sides = list(shape) if isinstance(shape, list | tuple) else []
    if any(type(side) is not int or not 1 <= side <= LARGEST_SIDE for side in sides):
        raise StoreError(f"{folder} asks for images of shape {shape}, which no model here was made for")
    if num_classes is not None and (type(num_classes) is not int or not 1 <= num_classes <= MOST_CLASSES):
        raise StoreError(f"{folder} asks for {num_classes} classes; expected 1 to {MOST_CLASSES}")


def _limited(path: Path, most_bytes: int) -> bytes:
    if path.stat().st_size > most_bytes:
        raise StoreError(f"{path} has {path.stat().st_size} bytes, more than any that Secateur writes")
    return path.read_bytes()


def read_source(directory: str | Path) -> dict[str, Any]:
    """How the original of the folder's model is built: keyword arguments of `build_model`, none where it does not
    say."""
    manifest = read_manifest(directory)
    source = dict(manifest.source)
    prefix, _, rest = str(source.get("name", "")).partition(":")
    if prefix == "hf" and rest in manifest.sha256:
        source["name"] = f"hf:{Path(directory) / rest}"
    return source


def read_run(directory: str | Path) -> RunRecord:
    """The run record of a saved folder."""
    return RunRecord.from_json((Path(directory) / RUN).read_bytes())


def load_into(directory: str | Path, model: nn.Module) -> nn.Module:
    """Turn a fresh instance of the original model into the saved one, bit for bit; returns it.

    Raises StoreError when the folder is damaged or belongs to another model; the instance is not usable then.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    plans = Plans.from_json((folder / PLAN).read_bytes()).plans
    if is_transformers_model(model):
        describe(model, config_of(model), exact=False)
    if fingerprint(named_tensors(model)) != manifest.fingerprint:
        try:
            replay_(model, plans)
        except (PlanError, AttributeError) as error:
            raise StoreError(f"{folder} does not belong to this model: {error}") from error
        except LookupError as error:
            raise StoreError(
                f"{folder / PLAN} contradicts itself: it names {error} without describing it; copy the folder again"
            ) from error
    stock = read_stock(folder) if manifest.layout == "transformers" else None
    weights = read_weights(folder) if stock is None else {found.name: found.tensor for found in named_tensors(stock)}
    if fingerprint(named_tensors(model)) != manifest.fingerprint:
        raise StoreError(
            f"{folder} does not belong to this model: it holds a {manifest.model}, got a {type(model).__qualname__} "
            f"whose tensors differ{_first_difference(weights, model)}"
        )
    _fill(model, weights, folder)
    if stock is not None:
        take_over_config(model, stock)
    remember_history(model, plans)
    remember_runs(model, read_run(folder).with_itself())
    _take_over_masks(model, folder)
    return model


def _take_over_masks(model: nn.Module, folder: Path) -> None:
    masks = read_masks(folder)
    if masks is not None:
        _demand_zeros(model, masks, str(folder))
        remember_masks(model, masks)


def _demand_zeros(model: nn.Module, masks: ElementMasks, where: str) -> None:
    """Raise StoreError unless the masked weights are zero."""
    tensors = as_tensors(masks)
    try:
        pairs = masked_parameters(model, tensors)
    except PlanError as error:
        raise StoreError(f"{where}: {error}") from error
    for name, (parameter, removed) in zip(tensors, pairs, strict=True):
        if bool(parameter.detach()[removed].any()):
            raise StoreError(
                f"{where}: weights of {name!r} that its mask removes are not zero; hold them there while training "
                "(fit(masks=...), or secateur.sparse.keeping), or forget the masks (remember_masks(model, None))"
            )


def _first_difference(weights: Mapping[str, torch.Tensor], model: nn.Module) -> str:
    saved = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    own = {found.name: tuple(found.tensor.shape) for found in named_tensors(model)}
    for name in [*saved, *own]:
        if saved.get(name) != own.get(name):
            return f" (tensor {name!r}: saved {saved.get(name)}, this model {own.get(name)})"
    return ""


def _fill(model: nn.Module, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """What belongs to the model's state has to be there and fit; the rest is taken over where it can be."""
    own = {found.name: found.tensor for found in named_tensors(model)}
    passing = {found.name for found in named_tensors(model) if not found.persistent}
    missing = sorted(own.keys() - weights.keys() - passing)
    if missing:
        raise StoreError(f"{folder / WEIGHTS} and the model differ in tensor {missing[0]!r}")
    with torch.no_grad():
        for name in own.keys() & weights.keys() & passing:
            own.pop(name).data = weights[name]
        for name, tensor in own.items():
            if name in passing:
                continue
            if tensor.shape != weights[name].shape or tensor.dtype != weights[name].dtype:
                raise StoreError(
                    f"{folder / WEIGHTS}: tensor {name!r} is {weights[name].dtype} {tuple(weights[name].shape)}, "
                    f"expected {tensor.dtype} {tuple(tensor.shape)}"
                )
            tensor.copy_(weights[name])
