"""Whether a network is one of transformers, and whether its configuration describes it."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from secateur.hugging_face.building import build_without_memory
from secateur.structure import named_tensors


def is_transformers_model(model: nn.Module) -> bool:
    """Whether its class is one that transformers itself brings; a class of somebody's own is code that no folder can
    name."""
    transformers: Any = sys.modules.get("transformers")
    if transformers is None or not type(model).__module__.startswith("transformers."):
        return False
    own = getattr(transformers, type(model).__name__, None) is type(model)
    return own and isinstance(model, transformers.PreTrainedModel)


def described(model: nn.Module) -> bool:
    """Whether `from_pretrained` gives this network back from its configuration and weights: it is uncut, or took over a
    configuration that was proved (`adopt_config`)."""
    if not is_transformers_model(model):
        return False
    owner: Any = model
    built = build_without_memory(type(model), owner.config.to_dict())
    types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return built is not None and len(types) <= 1 and _shapes(built) == _shapes(model)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {found.name: tuple(found.tensor.shape) for found in named_tensors(model)}
