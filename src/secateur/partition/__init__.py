"""A network spread over devices: who owns which channels, what crosses between them, and how to need less of it."""

from secateur.partition.split import Split, Strategy, partition
from secateur.partition.topology import Topology

__all__ = ["Split", "Strategy", "Topology", "partition"]
