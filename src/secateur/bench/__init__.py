"""Networks side by side: time, memory and throughput of a forward, in several engines."""

from secateur.bench.engines import ENGINES
from secateur.bench.networks import Entry, Network, OnnxFile
from secateur.bench.running import bench

__all__ = ["ENGINES", "Entry", "Network", "OnnxFile", "bench"]
