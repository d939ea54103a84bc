"""torch.nn.utils.prune both ways: models that carry its masks are read and made plain, and masks are written as its.

What it leaves on a module is a parameter `weight_orig`, a buffer `weight_mask`, and a hook that multiplies them before
each forward.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from secateur.models.weights import MASK, ORIGINAL
from secateur.sparse.masks import Masks, masked_parameters, remember_masks
from secateur.spec import ElementMasks
from secateur.structure import clone


def read_masks(model: nn.Module) -> dict[str, Tensor]:
    """The masks that torch.nn.utils.prune put on the model, as booleans, by the name of the plain parameter."""
    return {
        f"{path}.{name}" if path else name: mask.bool()
        for path, module in model.named_modules()
        for name, mask in _masks_on(module).items()
    }


def _masks_on(module: nn.Module) -> dict[str, Tensor]:
    names = [name.removesuffix(ORIGINAL) for name in module._parameters if name.endswith(ORIGINAL)]
    found = {name: module._buffers.get(f"{name}{MASK}") for name in names}
    return {name: mask for name, mask in found.items() if mask is not None}


def permanent(model: nn.Module) -> nn.Module:
    """A plain copy with the zeros in its weights, as `torch.nn.utils.prune.remove` on everything would make it; it
    remembers its masks. The given model is not changed."""
    plain = clone(model)
    masks = read_masks(plain)
    for module in plain.modules():
        pruned = list(_masks_on(module))
        for name in pruned:
            torch_prune.remove(module, name)
        if pruned:
            _in_usual_order(module)
    take_over_masks(plain, masks)
    return plain


def take_over_masks(model: nn.Module, masks: Masks) -> None:
    """Remember masks that torch.nn.utils.prune made as those of this plain model; none are no change."""
    if masks:
        kept = {name: np.asarray(mask.cpu()) for name, mask in masks.items()}
        remember_masks(model, ElementMasks("element", kept, {"criterion": "torch.nn.utils.prune"}))


def _in_usual_order(module: nn.Module) -> None:
    """Weights before biases, as modules make them: `remove` puts what it restores last."""
    own = module._parameters
    order = getattr(module, "_flat_weights_names", None) or sorted(own, key=lambda name: "bias" in name)
    for name in [name for name in order if name in own]:
        own[name] = own.pop(name)


def write_masks_(model: nn.Module, masks: Masks) -> nn.Module:
    """Put the masks on the model as `torch.nn.utils.prune.custom_from_mask` does; returns it.

    Raises PlanError for masks that do not fit.
    """
    masked_parameters(model, masks)
    for name, mask in masks.items():
        path, _, leaf = name.rpartition(".")
        torch_prune.custom_from_mask(model.get_submodule(path), leaf, mask)
    return model


def sparsities(model: nn.Module) -> dict[str, float]:
    """Share of zeros of each weight of two or more dimensions, by its plain name, with the masks of
    torch.nn.utils.prune applied."""
    masks = read_masks(model)
    found: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            plain = name.removesuffix(ORIGINAL) if name.removesuffix(ORIGINAL) in masks else name
            kept = parameter.detach() if plain not in masks else parameter.detach() * masks[plain]
            found[plain] = 1 - int(torch.count_nonzero(kept)) / parameter.numel()
    return found
