"""Tensors of a stored state, back beside the weights that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def under(prefix: str, state: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the entries `PREFIX NAME` by the name of a weight, on its device; names without an entry are left
    out."""
    names = [name for name in weights if f"{prefix}{name}" in state]
    return {name: state[f"{prefix}{name}"].to(weights[name].device, copy=True) for name in names}
