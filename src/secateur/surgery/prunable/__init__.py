"""Prunable modules: masks that can come off again, a forward that equals the shrunk network's, and one call to it."""

from secateur.surgery.prunable.model import apply_masks, apply_plan, make_prunable, remove_masks, shrunk
from secateur.surgery.prunable.modules import (
    FORMS,
    Prunable,
    PrunableBatchNorm1d,
    PrunableBatchNorm2d,
    PrunableBatchNorm3d,
    PrunableConv1d,
    PrunableConv2d,
    PrunableConv3d,
    PrunableEmbedding,
    PrunableGroupNorm,
    PrunableLayerNorm,
    PrunableLinear,
    PrunableMultiheadAttention,
    PrunableProjection,
)

__all__ = [
    "FORMS",
    "Prunable",
    "PrunableBatchNorm1d",
    "PrunableBatchNorm2d",
    "PrunableBatchNorm3d",
    "PrunableConv1d",
    "PrunableConv2d",
    "PrunableConv3d",
    "PrunableEmbedding",
    "PrunableGroupNorm",
    "PrunableLayerNorm",
    "PrunableLinear",
    "PrunableMultiheadAttention",
    "PrunableProjection",
    "apply_masks",
    "apply_plan",
    "make_prunable",
    "remove_masks",
    "shrunk",
]
