"""Weights from a safetensors file into a model, all of them or none."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.spec import ModelError

PREFIX = "module."
"""What data-parallel wrappers put before every name."""
COUNTER = "num_batches_tracked"
"""A BatchNorm counter that old files do not have; inference never reads it."""


def load_weights(model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Copy the tensors of a `.safetensors` file into the model; returns the masks that the file held.

    A prefix `module.` on all names is dropped; tensors that the model ties to another need not be in the file. What
    torch.nn.utils.prune wrote (`weight_orig` with `weight_mask`) becomes the weight with its zeros. Raises ModelError
    that lists every name and shape that does not fit, or names the tensors with NaN or infinite values; the model is
    then unchanged.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            names = _without_prefix(file.keys())
            shapes = {name: tuple(file.get_slice(stored).get_shape()) for name, stored in names.items()}
            _check_fit(model, _made_permanent_names(shapes), path)
            tensors = {name: file.get_tensor(stored) for name, stored in names.items()}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}") from error
    refuse_nonfinite(tensors, str(path))
    plain, masks = made_permanent(tensors)
    model.load_state_dict(plain, strict=False)
    return masks


def made_permanent(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A state_dict without the reparametrisation of torch.nn.utils.prune, and the boolean masks by parameter.

    Raises ModelError where mask and weight differ in shape.
    """
    masks = {_plain_name(name, state): state[_mask_name(name)].bool() for name in state if _is_original(name, state)}
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        parameter = _plain_name(name, state)
        if _is_original(name, state):
            if masks[parameter].shape != tensor.shape:
                raise ModelError(
                    f"{name!r} has shape {tuple(tensor.shape)}, its mask {tuple(masks[parameter].shape)}; this "
                    "state_dict is broken, use another"
                )
            plain[parameter] = tensor.masked_fill(~masks[parameter], 0)
        elif not _is_mask(name, state):
            plain[name] = tensor
    return plain, masks


ORIGINAL, MASK = "_orig", "_mask"
"""What torch.nn.utils.prune adds to the name of a parameter."""


def _mask_name(original: str) -> str:
    return original.removesuffix(ORIGINAL) + MASK


def _is_original(name: str, names: Container[str]) -> bool:
    return name.endswith(ORIGINAL) and _mask_name(name) in names


def _is_mask(name: str, names: Container[str]) -> bool:
    return name.endswith(MASK) and name.removesuffix(MASK) + ORIGINAL in names


def _plain_name(name: str, names: Container[str]) -> str:
    return name.removesuffix(ORIGINAL) if _is_original(name, names) else name


def _made_permanent_names(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {_plain_name(name, shapes): shape for name, shape in shapes.items() if not _is_mask(name, shapes)}


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
