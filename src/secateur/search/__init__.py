"""Looking before cutting: what each axis costs in accuracy when it is cut alone."""

from secateur.search.sensitivity import sensitivity_curves

__all__ = ["sensitivity_curves"]
