"""The proof of element masks: zeros are where the masks say, and the network computes what the masked forward does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from secateur.sparse.masks import Masks, masked_parameters
from secateur.spec import Verification
from secateur.structure.capture import Inputs
from secateur.surgery import compared, eval_outputs, tolerance_of


def verify_masks(model: nn.Module, sparse: nn.Module, masks: Masks, inputs: Inputs) -> Verification:
    """Compare the sparse network with the masked forward: each masked parameter holds the values of the model before
    where these are removed, and is multiplied by its mask when the forward reads it. Both models come back as they
    were.

    Where a masked weight is not zero the result says so.
    """
    tolerance = tolerance_of(sparse)
    before, masked = dict(model.named_parameters()), dict[str, Tensor]()
    for name, (parameter, removed) in zip(masks, masked_parameters(sparse, masks), strict=True):
        if bool(parameter.detach()[removed].any()):
            found = f"{name}: {int(torch.count_nonzero(parameter[removed]))} removed weights are not zero"
            return Verification(math.inf, math.inf, False, tolerance, found)
        masked[name] = torch.where(removed, before[name].detach(), parameter.detach()) * ~removed
    return compared(eval_outputs(_Substituted(sparse, masked), inputs), eval_outputs(sparse, inputs), tolerance)


class _Substituted(nn.Module):
    """A model whose forward reads other tensors."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self.tensors = tensors

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.model, dict(self.tensors), args, kwargs)
