"""How to build the original of a network again, where the network itself tells.

A guess from the network's class and attributes counts for nothing until what it builds, without memory and cut by the
same plans, is the network: the same modules with the same settings, and tensors of the same shapes and types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from secateur.models import build_model, possible_origins
from secateur.spec import ModelError, Plan, PlanError
from secateur.store.replay import replay_
from secateur.structure import named_tensors
from secateur.structure.freeze import fingerprint

PLAIN = (bool, int, float, str, type(None))


def find_origin(model: nn.Module, plans: Sequence[Plan]) -> dict[str, Any]:
    """Keyword arguments of `build_model` for the original of a network of torchvision or timm; empty where nothing that
    can be guessed builds it."""
    for source in possible_origins(model):
        made = _made(source, plans)
        if made is not None and _same_tensors(made, model) and _settings(made) == _settings(model):
            return source
    return {}


def leads_to(source: Mapping[str, Any], plans: Sequence[Plan], model: nn.Module) -> bool:
    """Whether the plans make the tensors of this model from what `build_model` builds."""
    made = _made(source, plans)
    return made is not None and _same_tensors(made, model)


def _made(source: Mapping[str, Any], plans: Sequence[Plan]) -> nn.Module | None:
    try:
        with torch.device("meta"):
            original = build_model(**source)
        return replay_(original, plans)
    except (ModelError, PlanError, AttributeError):
        return None


def _same_tensors(one: nn.Module, other: nn.Module) -> bool:
    return fingerprint(named_tensors(one)) == fingerprint(named_tensors(other))


def _settings(model: nn.Module) -> dict[str, Any]:
    """Class and plain attributes of every module: strides, epsilons, switches."""
    return {path: (type(module), _plain(vars(module))) for path, module in model.named_modules()}


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in attributes.items()
        if name != "training" and not name.startswith("_") and _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple | list) else isinstance(value, PLAIN)
