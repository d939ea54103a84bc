"""The state of a training run in one safetensors file: tensors, and the rest as JSON in its header.

One file, so that weights, optimizer state and progress can never belong to different epochs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from secateur.spec import StoreError
from secateur.spec.errors import WriteError
from secateur.train.method import Stateful

FILE_NAME = "checkpoint.safetensors"
SCHEMA_VERSION = 2
FREE = ("learning_rate", "accumulate", "device")
"""Options that may change when a run goes on: what helps against losses that are not finite and too little memory."""

Parts = Mapping[str, Stateful]
"""Whatever has a state, by a name without a dot."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    steps: int = 0
    history: tuple[dict[str, Any], ...] = ()
    """One record per finished epoch."""


class OptimizerState:
    """The state of an optimizer as a flat dict: `PARAMETER.KEY` -> value."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """SGD without momentum keeps None, which needs no storing."""
        state = self.optimizer.state_dict()["state"]
        return {f"{i}.{key}": value for i, entry in state.items() for key, value in entry.items() if value is not None}

    def load_state_dict(self, flat: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        state: dict[int, dict[str, Any]] = {}
        for name, value in flat.items():
            parameter, _, key = name.partition(".")
            state.setdefault(int(parameter), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


class ScalerState:
    """The state of a gradient scaler; one that is switched off has none."""

    def __init__(self, scaler: GradScaler) -> None:
        self.scaler = scaler

    def state_dict(self) -> dict[str, Any]:
        """Numbers only."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.scaler.load_state_dict(dict(state))


def save(folder: Path, parts: Parts, options: Mapping[str, Any], progress: Progress) -> None:
    """Write the checkpoint in place of the one before; a kill at any time leaves one of the two, whole.

    options: what a run that goes on must have in common with this one. Raises StoreError for a state that is no tensor
    and that JSON cannot say, WriteError where the system refuses; the checkpoint before then stands.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for part, stateful in parts.items():
        state = stateful.state_dict()
        tensors |= {f"{part}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        values[part] = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
    progressed = {"schema_version": SCHEMA_VERSION, "options": dict(options), "progress": asdict(progress)}
    header = _as_json({**progressed, "values": values}, values)
    temporary = folder / f"{FILE_NAME}.tmp"
    own_copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(own_copies, temporary, metadata={"secateur": header})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a power cut must not find the new name before the bytes
        os.replace(temporary, folder / FILE_NAME)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise WriteError(f"cannot write {folder / FILE_NAME}: {error}; make room") from error


def resume(folder: Path, parts: Parts, options: Mapping[str, Any]) -> tuple[Progress, list[str]]:
    """Put the checkpoint's state into the parts, if there is one; also says which of the free options changed.

    Raises StoreError where it is broken, of another model, or of a run with other options.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE_NAME
    if not path.exists():
        return Progress(), []
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["secateur"])
            changes = _checked(path, header, options, parts)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            progress = Progress(header["progress"]["steps"], tuple(header["progress"]["history"]))
        for part, stateful in parts.items():
            own = {name.removeprefix(f"{part}."): value for name, value in tensors.items() if _is_of(name, part)}
            stateful.load_state_dict({**own, **header["values"][part]})
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError, ValueError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot resume from {path}: {error}; delete it to start again") from error
    return progress, changes


def _is_of(name: str, part: str) -> bool:
    return name.partition(".")[0] == part


def _as_json(header: Mapping[str, Any], values: Mapping[str, Mapping[str, Any]]) -> str:
    try:
        return json.dumps(header)
    except TypeError as error:
        odd = ", ".join(f"{part}.{key}" for part, held in values.items() for key in held)
        raise StoreError(
            f"cannot write a checkpoint: {error}; {odd} must be tensors or what JSON can say; train without "
            "checkpoint_dir"
        ) from error


def _checked(path: Path, header: Mapping[str, Any], options: Mapping[str, Any], parts: Parts) -> list[str]:
    if header["schema_version"] != SCHEMA_VERSION:
        raise StoreError(f"{path}: schema_version {header['schema_version']}, expected {SCHEMA_VERSION}; delete it")
    stored = header["options"]
    asked = json.loads(json.dumps(options))
    differing = {
        name: f"{name} {stored.get(name)} -> {asked[name]}" for name in asked if stored.get(name) != asked[name]
    }
    fixed = [text for name, text in differing.items() if name not in FREE]
    if set(header["values"]) != set(parts):
        fixed.append(f"{', '.join(sorted(header['values']))} -> {', '.join(sorted(parts))}")
    if fixed:
        raise StoreError(
            f"{path} belongs to a run with other options ({', '.join(fixed)}); give the same options, another "
            "checkpoint_dir, or delete it"
        )
    return list(differing.values())
