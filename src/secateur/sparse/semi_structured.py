"""2:4 weights on sparse tensor cores, where there are such."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from secateur.spec import SecateurError

LEAST_CAPABILITY = (8, 0)
"""CUDA compute capability of the first sparse tensor cores (Ampere)."""
MULTIPLES = (32, 64)
"""Rows and columns of 16-bit weights come in multiples of these, whichever kernels torch takes."""


@dataclass(frozen=True)
class Converted:
    """Which linear layers run on sparse tensor cores from now on, and why the others do not."""

    layers: tuple[str, ...]
    left_dense: Mapping[str, str]


def semi_structured_(model: nn.Module) -> Converted:
    """Compress the 2:4 weights of linear layers in place, for inference: half of the values and two bits for each.

    Outputs agree up to rounding. The weights are no longer parameters that train, and save the model before. Raises
    SecateurError where the model is not on a GPU with sparse tensor cores, in place of running slower.
    """
    linear = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    for name, module in linear.items():
        _demand_hardware(name, module.weight.device)
    obstacles = {name: obstacle(module.weight) for name, module in linear.items()}
    for name, module in linear.items():
        if obstacles[name] is None:
            compressed = to_sparse_semi_structured(module.weight.detach().contiguous())
            module.weight = nn.Parameter(compressed, requires_grad=False)
    done = tuple(name for name, reason in obstacles.items() if reason is None)
    return Converted(done, {name: reason for name, reason in obstacles.items() if reason is not None})


def obstacle(weight: Tensor) -> str | None:
    """Why a weight `(outputs, inputs)` cannot be compressed; None where it can."""
    rows, columns = weight.shape
    if weight.dtype not in (torch.float16, torch.bfloat16):
        return f"its type is {weight.dtype}, expected float16 or bfloat16; convert the model with .half()"
    if rows % MULTIPLES[0] or columns % MULTIPLES[1]:
        return f"its shape is {rows} x {columns}, expected multiples of {MULTIPLES[0]} x {MULTIPLES[1]}"
    if int(weight.reshape(-1, 4).count_nonzero(dim=1).max()) > 2:
        return "more than 2 of 4 weights in a row are not zero; prune it with granularity='2:4'"
    return None


def _demand_hardware(name: str, device: torch.device) -> None:
    if device.type != "cuda":
        raise SecateurError(
            f"2:4 sparsity is faster on GPUs with sparse tensor cores alone, and {name!r} is on {device}; move the "
            "model to one, or keep it as it is (the zeros do no harm)"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        raise SecateurError(
            f"{torch.cuda.get_device_name(device)} has compute capability {capability[0]}.{capability[1]}, sparse "
            f"tensor cores came with {LEAST_CAPABILITY[0]}.{LEAST_CAPABILITY[1]}; keep the model as it is"
        )
