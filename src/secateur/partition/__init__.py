"""A network spread over devices: who owns which channels, what crosses between them, and how to need less of it."""

from secateur.partition import makers  # noqa: F401  (adds to METHODS)
from secateur.partition.pruning import PrunedSplit, prune_crossings
from secateur.partition.runtime import SplitRun, run_split
from secateur.partition.split import Split, Strategy, partition
from secateur.partition.topology import Topology
from secateur.partition.training import CrossingLasso, CrossingTarget

__all__ = [
    "CrossingLasso",
    "CrossingTarget",
    "PrunedSplit",
    "Split",
    "SplitRun",
    "Strategy",
    "Topology",
    "partition",
    "prune_crossings",
    "run_split",
]
