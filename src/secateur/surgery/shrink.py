"""Physical surgery: smaller tensors, the sizes in the modules' attributes to match, and lists without the blocks that
leave."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from secateur.spec import Plan, PlanError, Structure
from secateur.spec.expr import size_of
from secateur.spec.structure import holder, shape_of
from secateur.structure import clone_with, named_tensors
from secateur.structure.attributes import write_attribute
from secateur.structure.clone import NamedTensor, forget_unknown
from secateur.structure.freeze import fingerprint
from secateur.structure.lists import remove_children
from secateur.surgery.select import kept_entries


def shrink(model: nn.Module, plan: Plan) -> nn.Module:
    """A new, physically smaller model; the given one is not changed and shares no memory with it.

    Raises PlanError when the plan was made for a model with other tensors.
    """
    tensors = list(named_tensors(model))
    check_fits(tensors, plan.structure)
    made = {id(found.tensor): _shrunk(found, plan) for found in _staying(tensors, plan)}
    small = clone_with(model, lambda tensor: made.get(id(tensor), tensor))
    forget_unknown(small, plan.structure.tensors)
    set_attributes(small, plan)
    _remove_blocks(small, plan)
    return small


def shrink_(model: nn.Module, plan: Plan) -> nn.Module:
    """Make the model itself physically smaller; returns it. Optimizers that hold its old parameters must be made
    anew."""
    check_fits(list(named_tensors(model)), plan.structure)
    forget_unknown(model, plan.structure.tensors)
    for found in _staying(list(named_tensors(model)), plan):
        with torch.no_grad():
            found.tensor.data = _shrunk(found, plan)
            found.tensor.grad = None
    set_attributes(model, plan)
    _remove_blocks(model, plan)
    return model


def _staying(tensors: list[NamedTensor], plan: Plan) -> Iterator[NamedTensor]:
    """Tensors that the plan knows, and that do not leave with a block."""
    leaving = {block.module: block.axis for block in plan.removed_blocks}
    known = plan.structure.tensors
    return (found for found in tensors if found.name in known and holder(found.name, leaving) is None)


def _remove_blocks(model: nn.Module, plan: Plan) -> None:
    remove_children(model, [block.module for block in plan.removed_blocks], plan.structure.rows)


def check_fits(tensors: list[NamedTensor], structure: Structure) -> None:
    """Raise PlanError unless the tensors are those of the structure, naming the first that differs."""
    for name, spec in structure.tensors.items():
        if shape_of(spec, structure.sizes) != spec.shape:
            raise PlanError(
                f"the structure contradicts itself: the axes of {name!r} do not give its shape {spec.shape}"
            )
    if fingerprint(tensors) == structure.fingerprint:
        return
    shapes = {found.name: tuple(found.tensor.shape) for found in tensors}
    for name, spec in structure.tensors.items():
        if name not in shapes:
            raise PlanError(f"the plan was made for another model ({structure.model}): this one has no tensor {name!r}")
        if shapes[name] != spec.shape:
            raise PlanError(
                f"the plan was made for another model ({structure.model}): tensor {name!r} has shape {shapes[name]}, "
                f"expected {spec.shape}"
            )
    extra = next((name for name in shapes if name not in structure.tensors), "(dtypes differ)")
    raise PlanError(f"the plan was made for another model ({structure.model}): it does not know tensor {extra!r}")


def _shrunk(found: NamedTensor, plan: Plan) -> torch.Tensor:
    spec = plan.structure.tensors[found.name]
    source = found.tensor.detach()
    scaled = rescaled(found.name, source, plan)
    small = kept_entries(scaled, spec.dims, plan)
    if small is source:
        small = source.clone()
    if source.dim() == 4 and source.is_contiguous(memory_format=torch.channels_last) and not source.is_contiguous():
        return small.contiguous(memory_format=torch.channels_last)
    return small.contiguous()


def rescaled(name: str, tensor: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Take up scales that the code computes from sizes that change."""
    for rescale in plan.structure.rescales:
        if rescale.tensor != name:
            continue
        old, new = size_of(rescale.size, plan.structure.sizes), size_of(rescale.size, plan.sizes)
        if old != new:
            tensor = tensor.clone()
            rows = rescale.rows if rescale.rows is not None else ((0, tensor.shape[0]),)
            for start, stop in rows:
                tensor[start:stop] *= (new / old) ** rescale.power
    return tensor


def set_attributes(model: nn.Module, plan: Plan) -> None:
    """Set the sizes that the model's modules hold to those of the plan."""
    for attribute in plan.structure.attributes:
        key = (attribute.module, attribute.name, attribute.index)
        write_attribute(model, key, size_of(attribute.size, plan.sizes))
