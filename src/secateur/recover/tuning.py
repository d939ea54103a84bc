"""Mask tuning: what a layer reads is weighted, and nothing else of it changes.

A Fast Post-Training Pruning Framework for Transformers, 2022, section 3.3: least squares for the entries of a mask, so
that a layer of the smaller network makes what it makes in the dense one. There are as few unknowns as columns, and some
dozen samples are enough. Unlike there, every column has a factor of its own, also those of one head or one channel;
factors are not clipped, but pulled to one by the ridge.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fit_scales(gram_GDD: Tensor, cross_GDO: Tensor, start_RD: Tensor, damping: float, *, constant: bool) -> Tensor:
    """Rows `(R, D)` that are `start` with a factor for each column, minimising `E|w x - y|^2` and a ridge that pulls
    factors to one; the constant in the last column of each row is free, or stays where it is.

    gram_GDD: E[x x^T] of each group, the last of x being 1. cross_GDO: E[x y^T].
    """
    mean_GD1, wanted_G1O = gram_GDD[:, :-1, -1:], cross_GDO[:, -1:]
    gram, cross = gram_GDD[:, :-1, :-1], cross_GDO[:, :-1]
    start_GOD = start_RD.unflatten(0, (len(gram_GDD), -1))
    weights_GOD, constant_GO1 = start_GOD[..., :-1], start_GOD[..., -1:]
    if constant:
        gram, cross = gram - mean_GD1 @ mean_GD1.mT, cross - mean_GD1 @ wanted_G1O
    else:
        cross = cross - mean_GD1 @ constant_GO1.mT
    system_GDD = (weights_GOD.mT @ weights_GOD) * gram
    right_GD = (weights_GOD.mT * cross).sum(2)
    ridge_GD = (damping * system_GDD.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)).expand_as(right_GD)
    ridge_GD = ridge_GD.clamp(min=torch.finfo(torch.float64).tiny)
    scales_GD = torch.linalg.solve(system_GDD + torch.diag_embed(ridge_GD), right_GD + ridge_GD)
    made_GOD = weights_GOD * scales_GD[:, None]
    if constant:
        constant_GO1 = wanted_G1O.mT - made_GOD @ mean_GD1
    return torch.cat([made_GOD, constant_GO1], 2).flatten(0, 1)
