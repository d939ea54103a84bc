"""Scores and a budget give a plan."""

from secateur.allocate.allocators import ALLOCATORS, Allocator
from secateur.allocate.merge import POLICIES, merged, votes
from secateur.allocate.plan import allocate, needs_times
from secateur.allocate.rounding import PROFILES
from secateur.allocate.shares import shares_from_curves, shares_from_entropies, shares_that_lose_least

__all__ = [
    "ALLOCATORS",
    "POLICIES",
    "PROFILES",
    "Allocator",
    "allocate",
    "merged",
    "needs_times",
    "shares_from_curves",
    "shares_from_entropies",
    "shares_that_lose_least",
    "votes",
]
