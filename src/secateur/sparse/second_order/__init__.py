"""Second-order pruning: which weights to remove, and what the others become, from what each layer reads and from how
the outputs of the whole network depend on each weight."""

from secateur.sparse.second_order.layers import Layer, find_layers
from secateur.sparse.second_order.obs import damped, exact_obs, refit, removal_costs
from secateur.sparse.second_order.rounds import Goal, prune_in_rounds
from secateur.sparse.second_order.settling import Task, matters, settle_
from secateur.sparse.second_order.sweep import sweep

__all__ = [
    "Goal",
    "Layer",
    "Task",
    "damped",
    "exact_obs",
    "find_layers",
    "matters",
    "prune_in_rounds",
    "refit",
    "removal_costs",
    "settle_",
    "sweep",
]
