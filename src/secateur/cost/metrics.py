"""The costs of a network under the metric keys that users read (docs/glossary.md)."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.cost.polynomial import CostModel
from secateur.spec import Structure

COST_OF = {"param_count": "params", "macs": "macs", "size_bytes": "size_bytes", "activation_bytes": "activation_bytes"}
"""Metric key -> key in `Structure.costs`."""


def network_costs(structure: Structure, sizes: Mapping[str, int] | None = None) -> dict[str, int]:
    """Exact costs of one forward of the example inputs, at these axis sizes or those of the structure."""
    at = structure.sizes if sizes is None else sizes
    return {key: CostModel(structure, cost).at(at) for key, cost in COST_OF.items()}
