"""Cutting: by zeros (reversible), for real (smaller tensors), and the proof that both did what was meant."""

from secateur.surgery.masks import masked, structured_masks
from secateur.surgery.mend import mend
from secateur.surgery.shrink import shrink, shrink_
from secateur.surgery.verify import eval_outputs, verify, verify_traced

__all__ = ["eval_outputs", "masked", "mend", "shrink", "shrink_", "structured_masks", "verify", "verify_traced"]
