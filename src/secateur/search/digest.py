"""Which weights and images something was measured on."""

from __future__ import annotations

from hashlib import sha256

import torch
from torch import Tensor, nn

from secateur.data import ImageSet


def digest_of(model: nn.Module) -> str:
    """sha256 of the names and bytes of all that belongs to the model's state."""
    digest = sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def digest_of_images(data: ImageSet) -> str:
    """sha256 of the images, their labels, and how they become what a network reads."""
    digest = sha256(repr((data.classes, data.mean, data.std, data.input_shape, data.mirrors, data.shift)).encode())
    digest.update(_bytes_of(data.images))
    digest.update(_bytes_of(data.labels))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
