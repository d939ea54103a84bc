"""Which device gets which channels: contiguous shares, whole layers, or those that belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from secateur.partition.owners import Owners
from secateur.spec.expr import Expr, index_along

STARTS, ROUNDS = 4, 20
"""Random starts of the search for channels that belong together, and rounds over all axes at most."""


@dataclass(frozen=True)
class Affinity:
    """How much each output of a layer depends on each of its inputs."""

    values_RC: np.ndarray
    rows: Expr
    columns: Expr


def contiguous(axes: Sequence[str], sizes: Mapping[str, int], shares: np.ndarray, home: int) -> Owners:
    """The first channels of every axis to device 0, the next ones to device 1, each its share."""
    owners = {axis: np.repeat(np.arange(len(shares)), _counts(sizes[axis], shares)) for axis in axes}
    return Owners(len(shares), home, owners, sizes)


def by_layers(
    axes: Sequence[str], sizes: Mapping[str, int], macs: Mapping[str, float], shares: np.ndarray, home: int
) -> Owners:
    """Whole axes, in the order of the network: device 0 has the first layers, and so on, each its share of the work.

    macs: of the layers that make an axis.
    """
    total = sum(macs.get(axis, 0.0) for axis in axes) or 1.0
    ends, done = np.cumsum(shares) * total, 0.0
    owners: dict[str, np.ndarray] = {}
    for axis in axes:
        work = macs.get(axis, 0.0)
        device = min(int(np.searchsorted(ends, done + work / 2)), len(shares) - 1)
        owners[axis] = np.full(sizes[axis], device)
        done += work
    return Owners(len(shares), home, owners, sizes)


def belonging_together(start: Owners, affinities: Sequence[Affinity], links: np.ndarray, seed: int = 0) -> Owners:
    """Channels exchanged between devices, which keep their numbers of them, so that outputs depend on inputs of the
    same device, or of one that is near, as far as that can be: axis by axis the best assignment, the others as they
    are, until nothing changes (as RePurpose, 2023, does layer by layer); the best of some random starts.

    links: what a byte costs from one device to another, `(sender, receiver)`.
    """
    generator = np.random.default_rng(seed)
    best, least = start, dependence_across(start, affinities, links)
    for _ in range(STARTS):
        shuffled = {axis: generator.permutation(own) for axis, own in start.axes.items()}
        found = _settled(Owners(start.devices, start.home, shuffled, start.sizes), affinities, links)
        across = dependence_across(found, affinities, links)
        if across < least:
            best, least = found, across
    return best


def _counts(size: int, shares: np.ndarray) -> np.ndarray:
    """So many indices for each device: whole numbers, nearest to the shares, that add up."""
    return np.diff(np.rint(np.concatenate([[0.0], np.cumsum(shares)]) * size).astype(int))


def _settled(owners: Owners, affinities: Sequence[Affinity], links: np.ndarray) -> Owners:
    for _ in range(ROUNDS):
        changed = False
        for axis, own in owners.axes.items():
            costs_KQ = _costs(axis, owners, affinities, links)
            places = np.sort(own)  # as many for each device as before
            rows, columns = linear_sum_assignment(costs_KQ[:, places])
            found = places[columns[np.argsort(rows)]]
            now, then = (costs_KQ[np.arange(len(own)), which].sum() for which in (own, found))
            if then < now * (1 - 1e-9):
                owners = Owners(owners.devices, owners.home, {**owners.axes, axis: found}, owners.sizes)
                changed = True
        if not changed:
            break
    return owners


def _costs(axis: str, owners: Owners, affinities: Sequence[Affinity], links: np.ndarray) -> np.ndarray:
    """What dependence on other devices would cost if an index of the axis were on this one, `(K, Q)`."""
    costs_KQ = np.zeros((owners.sizes[axis], owners.devices))
    for affinity in affinities:
        sides = (
            (affinity.values_RC, affinity.rows, affinity.columns, links),
            (affinity.values_RC.T, affinity.columns, affinity.rows, links.T),
        )
        for values, here, there, from_there in sides:
            index, other = index_along(here, axis, owners.sizes), owners.along(there)
            if other is None or not (index >= 0).any():
                continue
            upon = np.stack([values[:, other == device].sum(1) for device in range(owners.devices)], axis=1)
            np.add.at(costs_KQ, index[index >= 0], (upon @ from_there)[index >= 0])
    return costs_KQ


def dependence_across(owners: Owners, affinities: Sequence[Affinity], links: np.ndarray) -> float:
    """What dependence on other devices costs, in all."""
    total = 0.0
    for affinity in affinities:
        rows, columns = owners.along(affinity.rows), owners.along(affinity.columns)
        if rows is not None and columns is not None:
            total += float((affinity.values_RC * links[columns[None, :], rows[:, None]]).sum())
    return total
