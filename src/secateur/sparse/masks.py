"""Element masks on a model: which weights they cover, setting the zeros, remembering them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from secateur.sparse.layout import Layout, layout_of
from secateur.spec import ElementMasks, Plan, PlanError, SelectorError
from secateur.spec.errors import nearest
from secateur.spec.structure import holder
from secateur.structure.selectors import Selector, is_meant
from secateur.surgery.select import kept_entries

Masks = Mapping[str, Tensor]
"""Name of a parameter -> boolean tensor of its shape, False where the weight is zero."""

_MASKS: WeakKeyDictionary[nn.Module, ElementMasks] = WeakKeyDictionary()


def prunable_weights(
    model: nn.Module, *, ignore: Sequence[Selector] = (), targets: Sequence[Selector] = ()
) -> dict[str, nn.Parameter]:
    """The parameters of two or more dimensions by name, shared ones once: weights, not biases or norms.

    ignore, targets: parameters, modules (and all below them), `re:` patterns on either, module types, `first`, `last`.
    A shared one is meant by each of its names.
    Raises SelectorError for one that matches no such parameter.
    """
    weights = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() > 1}
    left_out = {name for selector in ignore for name in _matched(model, weights, selector)}
    wanted = {name for selector in targets for name in _matched(model, weights, selector)} if targets else set(weights)
    return {name: weights[name] for name in weights if name in wanted - left_out}


def _matched(model: nn.Module, weights: Mapping[str, nn.Parameter], selector: Selector) -> list[str]:
    names = list(weights)
    if selector in ("first", "last"):
        return names[:1] if selector == "first" else names[-1:]
    modules = tuple(f"{path}." for path, module in model.named_modules() if is_meant(path, module, selector))
    meant = {
        id(parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if is_meant(name, parameter, selector) or name.startswith(modules)
    }
    found = [name for name in names if id(weights[name]) in meant]
    if not found:
        shown = selector if isinstance(selector, str) else selector.__name__
        known = [*names, *(path for path, _ in model.named_modules() if path)]
        raise SelectorError(f"{shown!r} matches no weight; the nearest names are: {nearest(shown, known)}")
    return found


def layouts(model: nn.Module) -> dict[str, Layout]:
    """The layout of each prunable weight by name."""
    return {
        name: layout_of(model.get_submodule(name.rpartition(".")[0]), weight)
        for name, weight in prunable_weights(model).items()
    }


def apply_masks_(model: nn.Module, masks: Masks) -> nn.Module:
    """Set the removed weights to zero in place; returns the model. Raises PlanError for masks that do not fit it."""
    with torch.no_grad():
        for parameter, removed in masked_parameters(model, masks):
            parameter.masked_fill_(removed, 0)
    return model


def masked_parameters(model: nn.Module, masks: Masks) -> list[tuple[nn.Parameter, Tensor]]:
    """Each masked parameter with its removed positions, on its own device.

    Raises PlanError for masks that do not fit the model.
    """
    parameters = dict(model.named_parameters())
    pairs: list[tuple[nn.Parameter, Tensor]] = []
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            found = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            raise PlanError(
                f"the masks do not fit {type(model).__name__}: {name!r} has a mask of {tuple(mask.shape)}, the model "
                f"has {found}; make them from this model"
            )
        pairs.append((parameters[name], ~mask.to(parameters[name].device)))
    return pairs


def sparsity(model: nn.Module) -> float:
    """Zeros over the number of prunable weights, counted exactly."""
    weights = prunable_weights(model).values()
    zeros = sum(weight.numel() - int(torch.count_nonzero(weight)) for weight in weights)
    return zeros / max(1, sum(weight.numel() for weight in weights))


def remember_masks(model: nn.Module, masks: ElementMasks | None) -> None:
    """Note which weights of the model are zero for good, or forget it; kept beside the model, never on it."""
    if masks is None:
        _MASKS.pop(model, None)
    else:
        _MASKS[model] = masks


def add_masks_(
    small: nn.Module,
    model: nn.Module,
    masks: Masks,
    pattern: str,
    made_by: Mapping[str, str | int | float | None] | None = None,
) -> ElementMasks:
    """Set zeros in a copy of a model, and remember them: where the masks say, and where those of the model do."""
    both = as_tensors(masks_of(model))
    for name, mask in masks.items():
        both[name] = mask.cpu() & both[name] if name in both else mask.cpu()
    apply_masks_(small, both)
    record = ElementMasks(pattern, {name: mask.numpy() for name, mask in both.items()}, made_by or {})
    remember_masks(small, record)
    return record


def masks_of(model: nn.Module) -> ElementMasks | None:
    """The masks that pruning, or the folder that it was loaded from, gave the model; None for one without."""
    return _MASKS.get(model)


def shrink_masks(masks: ElementMasks, plan: Plan) -> ElementMasks:
    """The masks of a model after the plan has cut it; those of tensors that leave with a block go with them."""
    blocks = {block.module: block.axis for block in plan.removed_blocks}
    kept = {
        name: kept_entries(mask, plan.structure.tensors[name].dims, plan).numpy()
        for name, mask in as_tensors(masks).items()
        if holder(name, blocks) is None
    }
    return replace(masks, kept=kept)


def as_tensors(masks: ElementMasks | None) -> dict[str, Tensor]:
    """The masks of a record as boolean tensors; none without a record."""
    return {} if masks is None else {name: torch.from_numpy(kept) for name, kept in masks.kept.items()}
