"""Whether a network is one of transformers, and which configuration describes it.

Of a network that was cut, this is noted beside it: its own configuration object may hold some new numbers, because
modules read them from there, without being right as a whole.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from secateur.hugging_face.building import build_without_memory
from secateur.structure import named_tensors

Config = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """A configuration, and whether the network is what `from_pretrained` builds from it."""

    config: Config
    exact: bool
    """False where plans lead from what the configuration builds to the network."""


_DESCRIPTIONS: WeakKeyDictionary[nn.Module, Description] = WeakKeyDictionary()


def is_transformers_model(model: nn.Module) -> bool:
    """Whether its class is one that transformers itself brings; a class of somebody's own is code that no folder can
    name."""
    transformers: Any = sys.modules.get("transformers")
    if transformers is None or not type(model).__module__.startswith("transformers."):
        return False
    own = getattr(transformers, type(model).__name__, None) is type(model)
    return own and isinstance(model, transformers.PreTrainedModel)


def describe(model: nn.Module, config: Config, *, exact: bool) -> None:
    """Note the configuration that belongs to this network of transformers."""
    _DESCRIPTIONS[model] = Description(config, exact)


def config_of(model: nn.Module) -> Config:
    """The configuration that was noted for the network, or else its own."""
    owner: Any = model
    known = _DESCRIPTIONS.get(model)
    return owner.config.to_dict() if known is None else known.config


def described(model: nn.Module) -> bool:
    """Whether `from_pretrained` gives this network back from its configuration and weights: it is uncut, or took over a
    configuration that was proved (`adopt_config`)."""
    if not is_transformers_model(model) or not _DESCRIPTIONS.get(model, Description({}, True)).exact:
        return False
    owner: Any = model
    built = build_without_memory(type(model), owner.config.to_dict())
    types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return built is not None and len(types) <= 1 and _shapes(built) == _shapes(model)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {found.name: tuple(found.tensor.shape) for found in named_tensors(model)}
