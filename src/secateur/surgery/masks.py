"""Reversible cuts: zeros in place of what the plan removes, and blocks that pass their input on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from secateur.spec import Plan, PlanError
from secateur.structure import named_tensors
from secateur.surgery.bypass import bypassed
from secateur.surgery.select import removed_mask
from secateur.surgery.shrink import check_fits


def structured_masks(model: nn.Module, plan: Plan) -> dict[str, torch.Tensor]:
    """Name -> mask of ones and zeros of the parameter's shape, for each parameter that the plan cuts.

    Raises PlanError for a plan that removes blocks, which zeros cannot say.
    """
    if plan.removed_blocks:
        raise PlanError(
            f"the plan removes {len(plan.removed_blocks)} blocks ({plan.removed_blocks[0].module}, ...), which zeros "
            "cannot say; use secateur.shrink, or secateur.masked for a while"
        )
    return _masks(model, plan)


def _masks(model: nn.Module, plan: Plan) -> dict[str, torch.Tensor]:
    tensors = list(named_tensors(model))
    check_fits(tensors, plan.structure)
    masks: dict[str, torch.Tensor] = {}
    for found in tensors:
        spec = plan.structure.tensors[found.name]
        if found.kind == "parameter" and not _is_direction(found.name, plan):
            removed = removed_mask(spec.shape, spec.dims, plan, found.tensor.device)
            if removed.any():
                masks[found.name] = (~removed).expand(spec.shape).to(found.tensor.dtype)
    return masks


def _is_direction(name: str, plan: Plan) -> bool:
    """Whether weight normalisation divides the tensor by its own length: zeros in its magnitude say the same."""
    for direction, magnitude in (("original1", "original0"), ("weight_v", "weight_g")):
        if name.endswith(direction):
            return name.removesuffix(direction) + magnitude in plan.structure.tensors
    return False


@contextmanager
def masked(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """The model with zeros where the plan cuts, for the length of the block; the weights come back as they were.
    Residual blocks that leave pass their input on.

    Equals the shrunk model wherever zeros can say the same: not under norms that compute statistics over a cut axis.
    """
    parameters = dict(model.named_parameters())
    before: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, mask in _masks(model, plan).items():
            before[name] = parameters[name].detach().clone()
            parameters[name].mul_(mask)
    try:
        with bypassed(model, plan.removed_blocks):
            yield model
    finally:
        with torch.no_grad():
            for name, values in before.items():
                parameters[name].copy_(values)
