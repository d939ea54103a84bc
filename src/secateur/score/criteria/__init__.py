"""Criteria by family; importing this package fills the registry."""

from secateur.score.criteria import activation, entropy, gradient, magnitude, redundancy

__all__ = ["activation", "entropy", "gradient", "magnitude", "redundancy"]
