"""Criteria by family; importing this package fills the registry."""

from secateur.score.criteria import activation, depth, entropy, gradient, magnitude, redundancy

__all__ = ["activation", "depth", "entropy", "gradient", "magnitude", "redundancy"]
