"""Which weights something was measured on."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import nn


def digest_of(model: nn.Module) -> str:
    """sha256 of the names and bytes of all that belongs to the model's state."""
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
