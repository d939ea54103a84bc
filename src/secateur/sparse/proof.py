"""The proof of element masks: zeros are where the masks say, and the network computes what the masked forward does."""

from __future__ import annotations

import math

import torch
from torch import nn

from secateur.sparse.masks import Masks, apply_masks_, masked_parameters
from secateur.spec import Verification
from secateur.structure.capture import Inputs
from secateur.surgery import compared, eval_outputs, tolerance_of
from secateur.surgery.prunable import apply_masks, make_prunable


def verify_masks(model: nn.Module, sparse: nn.Module, masks: Masks, inputs: Inputs) -> Verification:
    """Compare the sparse network with prunable modules that hold its weights where these stay, those of the model
    before elsewhere, and the masks. Both models come back as they were.

    Where a masked weight is not zero, or a network ran no prunable module, the result says so.
    """
    tolerance = tolerance_of(sparse)
    for name, (parameter, removed) in zip(masks, masked_parameters(sparse, masks), strict=True):
        if bool(parameter[removed].any()):
            found = f"{name}: {int(torch.count_nonzero(parameter[removed]))} removed weights are not zero"
            return Verification(math.inf, math.inf, False, tolerance, found)
    masked = make_prunable(sparse)
    before = dict(model.named_parameters())
    with torch.no_grad():
        for name, (parameter, removed) in zip(masks, masked_parameters(masked, masks), strict=True):
            parameter.copy_(torch.where(removed, before[name], parameter))
    bare = apply_masks(masked, masks)
    apply_masks_(masked, {name: masks[name] for name in bare})
    return compared(eval_outputs(masked, inputs), eval_outputs(sparse, inputs), tolerance)
