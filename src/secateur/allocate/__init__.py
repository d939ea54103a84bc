"""Scores and a budget give a plan."""

from secateur.allocate.allocators import ALLOCATORS, Allocator
from secateur.allocate.plan import allocate

__all__ = ["ALLOCATORS", "Allocator", "allocate"]
