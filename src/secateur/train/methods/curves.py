"""How the share that is gone rises while a network trains: curves from progress (0 to 1) and the final share to the
share by now."""

from __future__ import annotations

from collections.abc import Callable

Curve = Callable[[float, float], float]
"""`(progress, share) -> share by now`; 0 at progress 0, `share` at progress 1."""


def one_shot(progress: float, share: float) -> float:
    """Nothing until the end, then all at once."""
    return share if progress >= 1 else 0.0


def linear(progress: float, share: float) -> float:
    """The same part of the whole in equal times."""
    return share * progress


def geometric(progress: float, share: float) -> float:
    """The same part of what is left in equal times: what the rounds of Learning both Weights and Connections, 2015,
    and of the Lottery Ticket Hypothesis, 2018, remove."""
    return 1 - (1 - share) ** progress


def cubic(progress: float, share: float) -> float:
    """Fast at first, while much can go, then ever slower: To Prune or Not to Prune, 2017, eq. 1, from no zeros on."""
    return share * (1 - (1 - progress) ** 3)
