"""Indices of what layers read removed one after the other, while the columns that are left make up for them.

Suffixes of shapes: R outputs, D columns and a constant, K indices that are left, C columns of one index.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from secateur.sparse.second_order.outputs import Judge

AT_ONCE = 1 / 64
"""Share of the indices left that go together where there are many."""


@dataclass
class Reader:
    """The rows of a weight, or some of them, while indices of what it reads go."""

    write_: Callable[[nn.Module, Tensor], None]
    """Sets the rows in a network."""
    values_RD: Tensor
    inverse_DD: Tensor
    counts_R: Tensor
    columns_KC: Tensor
    """Of each index, whether it is left or not, ascending."""

    def costs(self, left: Tensor) -> Tensor:
        """What removing each of these indices costs next, `(K,)`."""
        places_KC = self.columns_KC[left]
        block_KCC = self.inverse_DD[places_KC[:, :, None], places_KC[:, None, :]]
        values_KRC = self.values_RD[:, places_KC].transpose(0, 1)
        solved = torch.linalg.solve(block_KCC, values_KRC.transpose(1, 2)).transpose(1, 2)
        return ((values_KRC * solved).sum(2) * self.counts_R).sum(1)

    def remove(self, indices: Tensor) -> None:
        """Let the other columns make up for those of these indices."""
        places = self.columns_KC[indices].flatten()
        rows = self.inverse_DD[places]
        shares = torch.linalg.solve(rows[:, places], rows)
        self.values_RD -= self.values_RD[:, places] @ shares
        self.inverse_DD -= rows.T @ shares


def removed_in_turn(
    readers: Sequence[Reader], indices: np.ndarray, levels: Collection[int], measure: Callable[[], float]
) -> tuple[list[int], np.ndarray]:
    """The order in which these indices go, and what each adds to the loss.

    levels: how many are gone when the loss is measured; sums of what the readers lose are brought into line with it.
    """
    order: list[int] = []
    lost: list[float] = []
    measured = {0: 0.0}
    left = indices
    while len(left):
        costs = torch.stack([reader.costs(torch.from_numpy(left)) for reader in readers]).sum(0).clamp(min=0).numpy()
        most = min((level for level in levels if level > len(order)), default=len(indices)) - len(order)
        going = np.argsort(costs, kind="stable")[: min(most, max(1, int(len(left) * AT_ONCE)))]
        order += left[going].tolist()
        lost += costs[going].tolist()
        for reader in readers:
            reader.remove(torch.from_numpy(left[going]))
        left = np.delete(left, going)
        if len(order) in levels and len(left):
            measured[len(order)] = measure()
    return order, slopes(np.cumsum(lost), measured)


def lost_by(readers: Sequence[Reader], judge: Judge, model: nn.Module) -> float:
    """What the network loses when the readers are what they have become: columns of indices that are gone are zero. The
    network comes back as it was."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for reader in readers:
        reader.write_(model, reader.values_RD.float())
    found = judge(model)
    model.load_state_dict(state)
    return found


def slopes(lost: np.ndarray, measured: Mapping[int, float]) -> np.ndarray:
    """What each index adds to the loss, in the order in which they go: along the largest convex curve below the
    estimates, once these are brought into line with the loss that was measured after so many."""
    estimate = np.concatenate([[0.0], lost])
    anchors = sorted(measured)
    known, heights = estimate[anchors], np.maximum.accumulate([measured[number] for number in anchors])
    span = known[-1] - known[-2] if len(known) > 1 else 0.0
    slope = (heights[-1] - heights[-2]) / span if span > 0 else 1.0
    beyond = np.maximum(estimate - known[-1], 0) * slope
    return np.diff(_convex(np.interp(estimate, known, heights) + beyond))


def _convex(curve: np.ndarray) -> np.ndarray:
    """The largest convex curve that is nowhere above this one."""
    corners: list[int] = []
    for place in range(len(curve)):
        while len(corners) > 1 and _above(curve, corners[-2], corners[-1], place):
            corners.pop()
        corners.append(place)
    return np.interp(np.arange(len(curve)), corners, curve[corners])


def _above(curve: np.ndarray, low: int, middle: int, high: int) -> bool:
    return (curve[middle] - curve[low]) * (high - low) >= (curve[high] - curve[low]) * (middle - low)
