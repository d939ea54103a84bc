"""Weights from a safetensors file into a model, all of them or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.spec import ModelError

PREFIX = "module."
"""What data-parallel wrappers put before every name."""
COUNTER = "num_batches_tracked"
"""A BatchNorm counter that old files do not have; inference never reads it."""


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Copy the tensors of a `.safetensors` file into the model.

    A prefix `module.` on all names is dropped; tensors that the model ties to another need not be in the file. Raises
    ModelError that lists every name and shape that does not fit, or names the tensors with NaN or infinite values; the
    model is then unchanged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = _without_prefix(file.keys())
            shapes = {name: tuple(file.get_slice(stored).get_shape()) for name, stored in names.items()}
            _check_fit(model, shapes, path)
            tensors = {name: file.get_tensor(stored) for name, stored in names.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}") from error
    refuse_nonfinite(tensors, str(path))
    model.load_state_dict(tensors, strict=False)


def refuse_nonfinite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise ModelError that names the tensors with NaN or infinite values."""
    bad = [name for name, tensor in tensors.items() if not _finite(tensor)]
    if bad:
        raise ModelError(f"{where}: NaN or infinite values in {', '.join(bad)}; these weights are broken, use others")


def _finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    wide = tensor if tensor.element_size() > 1 else tensor.float()
    return bool(torch.isfinite(wide).all())


def _check_file(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise ModelError(
            f"weights must be a .safetensors file, got {path}; other formats are pickled and could run code. Convert a "
            "state dict that you trust with safetensors.torch.save_file(state_dict, 'weights.safetensors')"
        )
    if not path.is_file():
        raise ModelError(f"no weights at {path}")


def _without_prefix(stored: Iterable[str]) -> dict[str, str]:
    stored = list(stored)
    prefixed = all(name.startswith(PREFIX) for name in stored)
    return {name.removeprefix(PREFIX) if prefixed else name: name for name in stored}


def _check_fit(model: nn.Module, shapes: Mapping[str, tuple[int, ...]], path: Path) -> None:
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    filled = {id(state[name]) for name in shapes if name in state}
    absent = (name for name in state if name not in shapes and not name.endswith(COUNTER))
    problems = [f"missing in the file: {name}" for name in absent if id(state[name]) not in filled]
    problems += [f"not in the model: {name}" for name in shapes if name not in state]
    problems += [
        f"{name}: file has {shape}, model has {tuple(state[name].shape)}"
        for name, shape in shapes.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise ModelError(f"{path} does not fit {type(model).__name__} in {len(problems)} places:\n  {listed}")
