"""Element masks: single weights set to zero, and kept there."""

from secateur.sparse.magnitude import magnitude_masks
from secateur.sparse.masks import Masks, apply_masks_, keeping, prunable_weights, sparsity

__all__ = ["Masks", "apply_masks_", "keeping", "magnitude_masks", "prunable_weights", "sparsity"]
