"""`prune` and what belongs to it: the stages of the library in one call."""

from secateur.pipeline.config import PruneConfig
from secateur.pipeline.pruning import prune
from secateur.pipeline.result import PruneResult

__all__ = ["PruneConfig", "PruneResult", "prune"]
