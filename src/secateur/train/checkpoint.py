"""The state of a training run in one safetensors file: tensors, and the rest as JSON in its header.

One file, so that weights, optimizer state and progress can never belong to different epochs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.spec import StoreError
from secateur.train.config import TrainConfig

FILE_NAME = "checkpoint.safetensors"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    steps: int = 0
    history: tuple[dict[str, Any], ...] = ()
    """One record per finished epoch."""


def save(folder: Path, model: nn.Module, optimizer: Optimizer, config: TrainConfig, progress: Progress) -> None:
    """Write the checkpoint in place of the one before; a kill at any time leaves one of the two, whole."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in _optimizer_tensors(optimizer).items()}
    odd = [name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)]
    if odd:
        raise StoreError(f"cannot write a checkpoint: {', '.join(odd)} are no tensors; train without checkpoint_dir")
    header = {"schema_version": SCHEMA_VERSION, "config": asdict(config), "progress": asdict(progress)}
    temporary = folder / f"{FILE_NAME}.tmp"
    own_copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    save_file(own_copies, temporary, metadata={"secateur": json.dumps(header)})
    os.replace(temporary, folder / FILE_NAME)


def resume(folder: Path, model: nn.Module, optimizer: Optimizer, config: TrainConfig) -> Progress:
    """Put the checkpoint's state into model and optimizer, if there is one.

    Raises StoreError where it is broken, of another model, or of a run with other options.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE_NAME
    if not path.exists():
        return Progress()
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["secateur"])
            _check(path, header, config)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            progress = Progress(header["progress"]["steps"], tuple(header["progress"]["history"]))
        model.load_state_dict(_under("model.", tensors))
        _load_optimizer(optimizer, _under("optimizer.", tensors))
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot resume from {path}: {error}; delete it to start again") from error
    return progress


def _check(path: Path, header: Mapping[str, Any], config: TrainConfig) -> None:
    if header["schema_version"] != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema_version {header['schema_version']}, expected {SCHEMA_VERSION}; delete it")
    stored, asked = header["config"], asdict(config)
    differing = [f"{name} {stored.get(name)} -> {asked[name]}" for name in asked if stored.get(name) != asked[name]]
    if differing:
        raise StoreError(
            f"{path} belongs to a run with other options ({', '.join(differing)}); give the same options, another "
            "checkpoint_dir, or delete it"
        )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer_tensors(optimizer: Optimizer) -> dict[str, Any]:
    """`PARAMETER.KEY` -> tensor; SGD without momentum keeps None, which needs no storing."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items() if value is not None}


def _load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        parameter, _, key = name.partition(".")
        state.setdefault(int(parameter), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
