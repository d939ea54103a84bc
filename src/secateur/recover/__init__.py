"""Closed-form healing: what is cut is chosen by what it costs after the rest has made up for it, and the rest does."""

from secateur.recover.healing import FOLD, STAGES, heal_, stages_of
from secateur.recover.joint import joint_refit_
from secateur.recover.rebasing import rebase_norms_
from secateur.recover.refit import refit_
from secateur.recover.selection import SECOND_ORDER, allocator_for, healed_scores

__all__ = [
    "FOLD",
    "SECOND_ORDER",
    "STAGES",
    "allocator_for",
    "heal_",
    "healed_scores",
    "joint_refit_",
    "rebase_norms_",
    "refit_",
    "stages_of",
]
