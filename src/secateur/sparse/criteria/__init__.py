"""How single weights are scored, by family."""

from secateur.sparse.criteria import flow, inputs, loss, magnitude
from secateur.sparse.criteria.movement import Movement
from secateur.sparse.criteria.registry import WEIGHT_CRITERIA, WeightCriterion, WeightQuestion

__all__ = ["WEIGHT_CRITERIA", "Movement", "WeightCriterion", "WeightQuestion", "flow", "inputs", "loss", "magnitude"]
