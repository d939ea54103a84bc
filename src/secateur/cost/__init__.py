"""What a network costs: exact functions of its axis sizes, and measured time."""

from secateur.cost.latency import measure_latency
from secateur.cost.latency_model import LatencyModel, latency_model
from secateur.cost.metrics import network_costs
from secateur.cost.polynomial import CostModel
from secateur.cost.speed import Speed, compare_latency

__all__ = [
    "CostModel",
    "LatencyModel",
    "Speed",
    "compare_latency",
    "latency_model",
    "measure_latency",
    "network_costs",
]
