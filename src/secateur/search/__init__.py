"""Looking before cutting: what each axis or weight tensor costs in accuracy when it is cut alone."""

from secateur.search.digest import digest_of
from secateur.search.journal import Journal
from secateur.search.sensitivity import (
    RATIOS,
    Curves,
    Level,
    channel_levels,
    judged,
    sensitivity_curves,
    weight_levels,
)

__all__ = [
    "RATIOS",
    "Curves",
    "Journal",
    "Level",
    "channel_levels",
    "digest_of",
    "judged",
    "sensitivity_curves",
    "weight_levels",
]
