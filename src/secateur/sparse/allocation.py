"""How many weights each parameter loses.

An allocator is a function from an `Allotment` to a number of weights per parameter. It is called once; which weights
these are is decided afterwards, by their scores. What leaves as a whole may take a few weights more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from secateur.sparse.layout import Layout
from secateur.sparse.pattern import Pattern
from secateur.sparse.select import keep_above, keep_heaviest, keep_highest, lowest
from secateur.spec import BudgetError, Registry

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Allotment:
    """What an allocator decides on."""

    weights: Mapping[str, Tensor]
    """Values of the weights that are pruned, by parameter."""
    scores: Mapping[str, Tensor]
    """Scores of what leaves as a whole: matrices, comparable between parameters where the criterion says so."""
    layouts: Mapping[str, Layout]
    pattern: Pattern
    limits: Mapping[str, int]
    """Weights that each parameter may lose at most."""
    remove: int
    """Weights that are to go in all."""
    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    """What was given by parameter, for allocators that read it."""

    @property
    def single(self) -> bool:
        """Whether weights leave one by one."""
        return all(self.pattern.block(layout) == (1, 1) for layout in self.layouts.values())

    def sizes(self, name: str) -> Tensor:
        """Weights behind each score of a parameter."""
        return self.pattern.unit_sizes(self.layouts[name])


WeightAllocator = Callable[[Allotment], Counts]

WEIGHT_ALLOCATORS: Registry[WeightAllocator] = Registry("weight-allocators")


def without_budget(allocator: WeightAllocator) -> WeightAllocator:
    """Decorator: shares say how much goes, and no budget does."""
    allocator.needs_no_budget = True  # type: ignore[attr-defined]
    return allocator


def in_rows(allocator: WeightAllocator) -> WeightAllocator:
    """Decorator: every output of a weight loses as much as any other."""
    allocator.in_rows = True  # type: ignore[attr-defined]
    return allocator


@WEIGHT_ALLOCATORS.register("uniform", "the same share of every weight tensor")
def uniform(given: Allotment) -> Counts:
    """The same share of every parameter, the total exact: what rounding leaves over goes where most was cut off."""
    return _proportional(given, dict.fromkeys(given.weights, 1.0))


@WEIGHT_ALLOCATORS.register("row", "the same share of every output of every weight tensor (Wanda's comparison group)")
@in_rows
def row(given: Allotment) -> Counts:
    """As `uniform`, and within each parameter the same count for every output."""
    if given.pattern.kind != "element":
        raise BudgetError(f"allocator row compares single weights within an output; the pattern is {given.pattern}")
    return uniform(given)


@WEIGHT_ALLOCATORS.register("global", "the lowest scores of the whole network go, wherever they are")
def global_(given: Allotment) -> Counts:
    """One threshold over all parameters; one that would lose more than its limit keeps its highest scores."""
    scores = dict(given.scores)
    while True:
        counts = _under_one_threshold(given, scores)
        over = [name for name in counts if counts[name] > given.limits[name]]
        if not over:
            return counts
        scores |= {name: _capped(given, name) for name in over}


def _under_one_threshold(given: Allotment, scores: Mapping[str, Tensor]) -> Counts:
    if given.remove == 0:
        return dict.fromkeys(scores, 0)
    values = list(scores.values())
    if given.single:
        masks = keep_above(values, lowest(values, given.remove))
        return {name: int((~mask).sum()) for name, mask in zip(scores, masks, strict=True)}
    sizes = [given.sizes(name) for name in scores]
    masks = keep_heaviest(values, sizes, given.remove)
    return {name: int(size[~mask.cpu()].sum()) for name, size, mask in zip(scores, sizes, masks, strict=True)}


def _capped(given: Allotment, name: str) -> Tensor:
    """The scores, with infinity at the highest ones that have to stay."""
    scores, stay = given.scores[name], given.weights[name].numel() - given.limits[name]
    (others,) = keep_highest([-scores], stay) if given.single else keep_heaviest([-scores], [given.sizes(name)], stay)
    return scores.masked_fill(~others, torch.inf)


@WEIGHT_ALLOCATORS.register("erk", "denser where a layer is small: density by the sum over the product of its sizes")
def erk(given: Allotment) -> Counts:
    """Erdos-Renyi-Kernel (Rigging the Lottery, 2020, section 3): density proportional to (n_in + n_out + kw + kh) /
    (n_in n_out kw kh), in all that many weights; where that is more than a layer has, the layer stays dense. Of linear
    layers the kernel does not count."""
    density = {name: _erk_density(given.layouts[name]) for name in given.weights}
    sizes = {name: weight.numel() for name, weight in given.weights.items()}
    dense: set[str] = set()
    while len(dense) < len(sizes):
        kept = sum(sizes.values()) - given.remove - sum(sizes[name] for name in dense)
        factor = kept / sum(density[name] * sizes[name] for name in sizes if name not in dense)
        over = {name for name in sizes if name not in dense and factor * density[name] > 1}
        if not over:
            wanted = {name: 0.0 if name in dense else 1 - factor * density[name] for name in sizes}
            return _proportional(given, wanted)
        dense |= over
    return dict.fromkeys(sizes, 0)


def _erk_density(layout: Layout) -> float:
    kernel = [layout.shape[dim] for dim in layout.order[2:]] if layout.kernel > 1 else []
    return (layout.outputs + layout.inputs + sum(kernel)) / (layout.outputs * layout.inputs * layout.kernel)


@WEIGHT_ALLOCATORS.register("adaptive", "each weight tensor gives its share: from sensitivity curves, or as given")
def adaptive(given: Allotment) -> Counts:
    """One common strength times each share, up to the limits; parameters without a share give 1."""
    return _proportional(given, {name: given.shares.get(name, 1.0) for name in given.weights})


@WEIGHT_ALLOCATORS.register("fixed", "each weight tensor loses exactly its share; takes no budget")
@without_budget
def fixed(given: Allotment) -> Counts:
    """As `amount` of torch.nn.utils.prune: round(share * size); parameters without a share stay whole."""
    return _within(given, {name: round(share * given.weights[name].numel()) for name, share in given.shares.items()})


@WEIGHT_ALLOCATORS.register("threshold", "what is at most as large as the threshold given goes; takes no budget")
@without_budget
def threshold(given: Allotment) -> Counts:
    """Magnitudes up to the absolute value in `shares`; for the criterion magnitude."""
    return _up_to(given, given.shares)


@WEIGHT_ALLOCATORS.register("sigma", "as threshold, in standard deviations of each weight tensor; takes no budget")
@without_budget
def sigma(given: Allotment) -> Counts:
    """Distiller's sensitivity pruner (after Learning both Weights and Connections, 2015): the threshold is the share
    times the standard deviation of the parameter."""
    return _up_to(given, {name: s * float(given.weights[name].double().std()) for name, s in given.shares.items()})


def _up_to(given: Allotment, thresholds: Mapping[str, float]) -> Counts:
    counts = {name: int((given.weights[name].abs() <= value).sum()) for name, value in thresholds.items()}
    return _within(given, counts)


def _within(given: Allotment, counts: Counts) -> Counts:
    """The counts, none above its limit; zero for parameters that are not mentioned."""
    return {name: min(counts.get(name, 0), given.limits[name]) for name in given.weights}


def _proportional(given: Allotment, wanted: Mapping[str, float]) -> Counts:
    """Counts that add up to what is to go, with the removed shares as `wanted` relative to each other."""
    names = list(given.weights)
    sizes = np.array([given.weights[name].numel() for name in names])
    limits = np.array([given.limits[name] for name in names])
    shares = np.array([wanted[name] for name in names])
    if (shares < 0).any() or limits[shares > 0].sum() < given.remove:
        raise BudgetError(
            f"the shares cannot remove {given.remove:,} weights: those with a share may lose "
            f"{int(limits[shares > 0].sum()):,}; give more of them a share of at least 0"
        )
    exact = _filled(given.remove, sizes * shares, limits)
    counts = np.array([floor(value + 1e-9) for value in exact])
    rest = given.remove - int(counts.sum())
    room = [place for place in np.argsort(counts - exact, kind="stable") if counts[place] < limits[place]]
    counts[[place for place in room if shares[place] > 0][:rest]] += 1
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _filled(total: int, wanted: Any, limits: Any) -> Any:
    """Amounts that add up to the total, in proportion to `wanted` except where that is above a limit."""
    amounts = np.zeros(len(wanted))
    open_ = wanted > 0
    while open_.any() and total > amounts.sum():
        amounts[open_] = wanted[open_] * (total - amounts[~open_].sum()) / wanted[open_].sum()
        over = open_ & (amounts > limits)
        amounts[over] = limits[over]
        open_ &= ~over
        if not over.any():
            break
    return amounts
