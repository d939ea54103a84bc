"""Optimal Brain Surgeon for the rows of a weight: which of them to remove at what cost, and what the others become.

All rows of a group read the same columns, so that they share one Hessian: with `H = E[x x^T]` of what a layer reads,
the mean squared change of output r is `(w - w0) H (w - w0)^T` of row r. Each row has a support of its own.

Suffixes of shapes: R rows, C columns, D columns with a constant 1 at the end, G groups of rows that share
a Hessian.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from secateur.sparse.second_order.runs import Runs

DAMPING = 1e-3
"""Share of the mean of the diagonal that is added to it."""
HELD = 1 << 24
"""Entries of the systems that are solved at once."""


def damped(hessian_GDD: Tensor, damping: float = DAMPING) -> Tensor:
    """The Hessian with `damping` times the mean of its diagonal added to the diagonal, that of the constant in the last
    column but a thousandth of it."""
    mean_G1 = hessian_GDD.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
    extra_GD = (damping * mean_G1).repeat(1, hessian_GDD.shape[1])
    extra_GD[:, -1] *= 1e-3
    extra_GD[mean_G1[:, 0] == 0] = 1.0  # nothing but zeros is read: any value will do
    return hessian_GDD + torch.diag_embed(extra_GD)


def removal_costs(hessian_GDD: Tensor, values_RD: Tensor, kept_RD: Tensor) -> Tensor:
    """What removing each weight alone costs when the others of its row make up for it: `w^2 / [H_SS^-1]`, S being what
    the row keeps (Second Order Derivatives for Network Pruning, 1993, eq. 5, times two). Infinite where nothing is
    left to remove. The Hessian is positive definite."""
    costs = torch.full_like(values_RD, torch.inf)
    for rows, places, real, system in _systems(hessian_GDD, kept_RD):
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(system)).diagonal(dim1=1, dim2=2)
        found = values_RD[rows].gather(1, places) ** 2 / inverse
        costs[rows] = costs[rows].scatter(1, places, found.where(real, torch.inf))
    return costs


def refit(hessian_GDD: Tensor, values_RD: Tensor, kept_RD: Tensor) -> Tensor:
    """Rows with zeros where nothing is kept that change the outputs least: `H_SS w_S = (H w0)_S`."""
    made = torch.zeros_like(values_RD)
    per_group = len(values_RD) // len(hessian_GDD)
    wanted = torch.bmm(values_RD.reshape(len(hessian_GDD), per_group, -1), hessian_GDD).reshape(values_RD.shape)
    for rows, places, real, system in _systems(hessian_GDD, kept_RD):
        right = (wanted[rows].gather(1, places) * real)[:, :, None]
        solved = torch.cholesky_solve(right, torch.linalg.cholesky(system))[:, :, 0]
        made[rows] = made[rows].scatter_add(1, places, solved * real)
    return made


def _systems(hessian_GDD: Tensor, kept_RD: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """For some rows at a time: which, the columns that each keeps (filled up to the same number), which of these are
    no filling, and the Hessian of these columns, with ones for the filling."""
    per_group = len(kept_RD) // len(hessian_GDD)
    most = int(kept_RD.sum(1).max())
    step = max(1, HELD // max(1, most * most))
    for start in range(0, len(kept_RD), step):
        rows = slice(start, start + step)
        kept = kept_RD[rows]
        count = kept.sum(1)
        places = kept.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, : int(count.max())]
        real = torch.arange(places.shape[1], device=kept.device) < count[:, None]
        group = torch.arange(start, start + len(kept), device=kept.device) // per_group
        system = hessian_GDD[group[:, None, None], places[:, :, None], places[:, None, :]]
        system = system * (real[:, :, None] & real[:, None, :])
        yield rows, places, real, system + torch.diag_embed((~real).to(system))


def exact_obs(hessian_CC: Tensor, values_RC: Tensor, remove: int, *, runs: Runs | None = None) -> Tensor:
    """Mask after removing weights one by one, always the cheapest, with the others of its row making up for it each
    time (Optimal Brain Compression, 2022, algorithms 1 and 2); `refit` gives the values.

    remove: how many in all. runs: of each run of columns so many stay in each row instead. The rows go through their
    removals independently; the cheapest beginnings of these go, where what a removal costs counts at least what those
    before it cost. The Hessian is positive definite.
    """
    rows, columns = values_RC.shape
    values, inverse = values_RC.clone(), torch.cholesky_inverse(torch.linalg.cholesky(hessian_CC))
    inverse_RCC = inverse.expand(rows, columns, columns).clone()
    room, group = _room(rows, columns, runs, values.device)
    steps = int(room[0].sum())
    order = torch.empty(rows, steps, dtype=torch.long, device=values.device)
    costs = torch.empty(rows, steps, dtype=values.dtype, device=values.device)
    here, gone = torch.arange(rows, device=values.device), torch.zeros_like(values, dtype=torch.bool)
    for step in range(steps):
        diagonal = inverse_RCC.diagonal(dim1=1, dim2=2)
        cost = (values**2 / diagonal).masked_fill(gone | (room[:, group] == 0), torch.inf)
        costs[:, step], order[:, step] = cost.min(1)
        q = order[:, step]
        pivot = inverse_RCC[here, q]
        scale = pivot[here, q]
        values -= pivot * (values[here, q] / scale)[:, None]
        inverse_RCC -= pivot[:, :, None] * (pivot / scale[:, None])[:, None, :]
        inverse_RCC[here, q, q] = 1.0  # removed: its row and column are zero from now on
        values[here, q] = 0.0
        gone[here, q] = True
        room[here, group[q]] -= 1
    if runs is None:
        rank = costs.cummax(1).values.flatten().argsort(stable=True)[:remove]
        gone = torch.zeros_like(gone)
        gone[rank // steps, order.flatten()[rank]] = True
    return ~gone


def _room(rows: int, columns: int, runs: Runs | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """How many weights may leave each run of each row, and the run of each column."""
    sizes, stay = zip(*(runs or [(columns, 0)]), strict=True)
    room = torch.tensor(sizes, device=device) - torch.tensor(stay, device=device)
    run = torch.arange(len(sizes), device=device).repeat_interleave(torch.tensor(sizes, device=device))
    return room.expand(rows, -1).clone(), run
