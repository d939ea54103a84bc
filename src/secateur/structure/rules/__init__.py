"""Operator rules, by kind of operator; importing this package fills the table."""

from secateur.structure.rules import (
    contraction,
    creation,
    indexing,
    normalisation,
    pointwise,
    reduction,
    routing,
    shape,
    spatial,
)
from secateur.structure.rules.table import RULES, find_rule, rule

__all__ = [
    "RULES",
    "contraction",
    "creation",
    "find_rule",
    "indexing",
    "normalisation",
    "pointwise",
    "reduction",
    "routing",
    "rule",
    "shape",
    "spatial",
]
