"""Which entries cross within a limit: those that are worth most for the time that their link takes."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import isotonic_regression

from secateur.partition.budget import Limit
from secateur.partition.crossings import Crossings
from secateur.partition.timing import estimate
from secateur.partition.topology import Topology
from secateur.spec import BudgetError


def choose(crossings: Crossings, values: np.ndarray, topology: Topology, limit: Limit) -> np.ndarray:
    """Whether each entry crosses. values: what each is worth. A sample sends no more bytes than the limit says, no more
    than each link allows, and nothing where there is no link, and devices have memory for the weights that read them.

    Where time is limited, links into a tensor fill evenly, because who reads it waits for the slowest, for as long as a
    sample is through in time by estimate.

    Raises BudgetError where that cannot be.
    """
    demand_possible(crossings, topology, limit)
    if limit.seconds < math.inf:
        order = _with_room(crossings, _by_arrival(crossings, values, topology), topology, limit)
        return _only(crossings, _in_time(crossings, order, topology, limit.seconds))
    times = crossings.bytes * topology.costs[crossings.sender, crossings.receiver]
    return _only(crossings, _with_room(crossings, np.argsort(-values / times, kind="stable"), topology, limit))


def seconds_with(crossings: Crossings, topology: Topology, kept: np.ndarray) -> float:
    """That one sample takes when these cross, by estimate."""
    return estimate(crossings.arrangement, crossings.needs(kept), topology, samples=1).critical


def demand_possible(crossings: Crossings, topology: Topology, limit: Limit) -> None:
    """Raise BudgetError where what crosses whatever the weights are is too much already."""
    if limit.bytes < crossings.fixed.sum():
        raise BudgetError(
            f"{limit.bytes:.0f} bytes a sample cannot be met: {int(crossings.fixed.sum())} cross whatever the weights "
            "are; allow as many"
        )
    for sender, receiver in np.argwhere(crossings.fixed > topology.most_bytes):
        why = "is missing" if topology.missing[sender, receiver] else "has room for less"
        raise BudgetError(
            f"{int(crossings.fixed[sender, receiver])} bytes a sample must cross from device {sender} to {receiver}, "
            f"whose link {why}; give these channels other owners (--owners)"
        )
    for device in np.flatnonzero(crossings.held > topology.most_held):
        raise BudgetError(
            f"device {device} holds {crossings.held[device]} bytes of weights whatever crosses, and has room for "
            f"{int(topology.most_held[device])}; give it fewer channels (--owners)"
        )
    if limit.seconds < math.inf:
        least = seconds_with(crossings, topology, _only(crossings, []))
        if limit.seconds < least:
            raise BudgetError(
                f"{1e3 * limit.seconds:.7g} ms a sample cannot be met: what crosses whatever the weights are, and what "
                f"devices compute, takes {1e3 * least:.7g} ms by estimate; allow a little more"
            )


def _with_room(crossings: Crossings, order: np.ndarray, topology: Topology, limit: Limit) -> list[int]:
    """Those for which, in this order, there are bytes left, in all and of the link, and memory of the receiver."""
    room, memory = topology.most_bytes - crossings.fixed, topology.most_held - crossings.held
    left, taken = limit.bytes - crossings.fixed.sum(), list[int]()
    for number in order.tolist():
        receiver, cost, held = crossings.receiver[number], crossings.bytes[number], crossings.weights[number]
        link = (crossings.sender[number], receiver)
        if cost <= room[link] and cost <= left and held <= memory[receiver]:
            taken.append(number)
            room[link] -= cost
            memory[receiver] -= held
            left -= cost
    return taken


def _by_arrival(crossings: Crossings, values: np.ndarray, topology: Topology) -> np.ndarray:
    """The order in which links fill. Who reads a tensor waits for its slowest link, so what all links bring in a
    stretch of time counts together: by its value for that time. What is worth nothing comes last."""
    links = (crossings.sender, crossings.receiver)
    live = (values > 0) & ~topology.missing[links]
    times = crossings.bytes * topology.seconds_of_a_byte[links]
    worth, arrivals = np.zeros(len(crossings)), np.zeros(len(crossings))
    for tensor in np.unique(crossings.tensor[live]):
        mine = np.flatnonzero(live & (crossings.tensor == tensor))
        for sender, receiver in np.unique(np.stack(links)[:, mine], axis=1).T:
            own = mine[(crossings.sender[mine] == sender) & (crossings.receiver[mine] == receiver)]
            own = own[np.argsort(-values[own], kind="stable")]
            arrivals[own] = topology.latencies[sender, receiver] + np.cumsum(times[own])
        stretches, place = np.unique(arrivals[mine], return_inverse=True)
        lengths = np.diff(stretches, prepend=0.0)
        rates = np.bincount(place, values[mine]) / lengths
        worth[mine] = isotonic_regression(rates, weights=lengths, increasing=False).x[place]
    return np.lexsort((arrivals, -worth))


def _in_time(crossings: Crossings, found: Sequence[int], topology: Topology, seconds: float) -> list[int]:
    """As many as there is time for, in this order; where the next takes too long, so does what else its link has of its
    tensor."""
    order, kept = np.array(found, dtype=np.int64), list[int]()
    sending = np.stack((crossings.tensor, crossings.sender, crossings.receiver))

    def in_time(count: int) -> bool:
        return seconds_with(crossings, topology, _only(crossings, [*kept, *order[:count]])) <= seconds

    while len(order):
        count = _longest(in_time, len(order))
        kept += order[:count].tolist()
        late = sending[:, order[count : count + 1]]
        order = order[count:][(sending[:, order[count:]] != late).any(0)]
    return kept


def _longest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number that fits, if larger ones than one that does not never do."""
    reach = 1
    while reach <= most and fits(reach):
        reach *= 2
    between = range(reach // 2 + 1, min(reach, most + 1))
    return reach // 2 + bisect_left(between, True, key=lambda count: not fits(count))


def _only(crossings: Crossings, numbers: Sequence[int]) -> np.ndarray:
    kept = np.zeros(len(crossings), dtype=bool)
    kept[numbers] = True
    return kept
