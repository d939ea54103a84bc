"""Single weights set to zero, one by one or in patterns, and kept there."""

from secateur.sparse.allocation import WEIGHT_ALLOCATORS, Allotment
from secateur.sparse.criteria import WEIGHT_CRITERIA, Movement, WeightQuestion
from secateur.sparse.keeping import keeping
from secateur.sparse.masks import (
    Masks,
    apply_masks_,
    as_tensors,
    masks_of,
    prunable_weights,
    remember_masks,
    sparsity,
)
from secateur.sparse.pattern import Pattern
from secateur.sparse.proof import verify_masks
from secateur.sparse.pruning import PrunedWeights, WeightConfig, prune_weights
from secateur.sparse.updating import UPDATING

__all__ = [
    "UPDATING",
    "WEIGHT_ALLOCATORS",
    "WEIGHT_CRITERIA",
    "Allotment",
    "Masks",
    "Movement",
    "Pattern",
    "PrunedWeights",
    "WeightConfig",
    "WeightQuestion",
    "apply_masks_",
    "as_tensors",
    "keeping",
    "masks_of",
    "prunable_weights",
    "prune_weights",
    "remember_masks",
    "sparsity",
    "verify_masks",
]
