"""Cutting: by zeros (reversible), for real (smaller tensors), and the proof that both did what was meant."""

from secateur.surgery.masks import masked, structured_masks
from secateur.surgery.mend import mend
from secateur.surgery.shrink import shrink, shrink_
from secateur.surgery.verify import compared, eval_outputs, tolerance_of, verify, verify_traced

__all__ = [
    "compared",
    "eval_outputs",
    "masked",
    "mend",
    "shrink",
    "shrink_",
    "structured_masks",
    "tolerance_of",
    "verify",
    "verify_traced",
]
