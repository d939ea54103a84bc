"""A network taken apart, run by one process for each device."""

from secateur.partition.runtime.launch import SplitRun, run_split

__all__ = ["SplitRun", "run_split"]
