"""From scores per weight to masks: which weights leave, by pattern and allocator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.sparse.allocation import Allotment, Counts, WeightAllocator
from secateur.sparse.layout import Layout
from secateur.sparse.pattern import Pattern
from secateur.sparse.select import keep_highest, keep_in_rows
from secateur.spec import BudgetError, ScoreError

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Request:
    """How much goes, and how it is spread."""

    pattern: Pattern
    sparsity: float | None
    """Share of all given weights that goes; None where the pattern or the shares say it."""
    allocator: WeightAllocator
    shares: Mapping[str, float]
    """By parameter, for allocators that read it."""
    min_keep: int = 1
    """What leaves as a whole, of which each parameter keeps at least so many."""
    max_remove_ratio: float = 1.0
    """Share of each parameter that may go at most."""
    in_rows: bool = False
    """Whether every output of a parameter loses as much as any other."""


def make_masks(
    scores: Tensors, weights: Tensors, layouts: Mapping[str, Layout], request: Request, gone: Tensors | None = None
) -> dict[str, Tensor]:
    """Masks of the weights' shapes, False at the lowest scores.

    scores: of the weights' shapes. gone: True at weights that are removed already; they go first, and of what leaves as
    a whole, what holds no other weights does. Single weights go in exactly the number asked for; of what leaves as a
    whole, the fewest that make up that number. Raises ScoreError for scores that are NaN, BudgetError for more than may
    go.
    """
    for name, values in scores.items():
        if bool(values.isnan().any()):
            raise ScoreError(
                f"the scores of {name!r} hold NaN, which has no place in an order; look for broken weights"
            )
    gone = gone or {}
    if request.pattern.keep_per_group is not None:
        first = {**scores, **{name: scores[name].masked_fill(there, -torch.inf) for name, there in gone.items()}}
        masks = {name: request.pattern.keep_in_groups(first[name], layouts[name]) for name in scores}
    else:
        units = {name: _unit_scores(score, gone.get(name), layouts[name], request) for name, score in scores.items()}
        kept = _kept_units(units, request.allocator(_allotment(units, weights, layouts, request)), layouts, request)
        masks = {name: request.pattern.spread(kept[name], layouts[name]) for name in kept}
    return {name: mask & ~gone[name] if name in gone else mask for name, mask in masks.items()}


def shares_of(weights: Tensors, layouts: Mapping[str, Layout], request: Request) -> dict[str, float]:
    """What the allocator takes of each parameter; for allocators that read no scores but magnitudes."""
    units = {name: request.pattern.unit_scores(weight.abs(), layouts[name]) for name, weight in weights.items()}
    counts = request.allocator(_allotment(units, weights, layouts, request))
    return {name: counts[name] / weight.numel() for name, weight in weights.items()}


def _unit_scores(score: Tensor, gone: Tensor | None, layout: Layout, request: Request) -> Tensor:
    if gone is None:
        return request.pattern.unit_scores(score, layout)
    units = request.pattern.unit_scores(score.masked_fill(gone, 0), layout)
    return units.masked_fill(request.pattern.unit_scores(gone.to(score), layout) == 1, -torch.inf)


def _allotment(units: Tensors, weights: Tensors, layouts: Mapping[str, Layout], request: Request) -> Allotment:
    sizes = {name: weights[name].numel() for name in units}
    limits = {name: _limit(layouts[name], request) for name in units}
    remove = round((request.sparsity or 0.0) * sum(sizes.values()))
    if remove > sum(limits.values()):
        raise BudgetError(
            f"budget sparsity={request.sparsity} cannot be met: of {sum(sizes.values()):,} weights "
            f"{sum(limits.values()):,} may go, as each parameter keeps {request.min_keep} or more; the nearest "
            f"possible is sparsity={sum(limits.values()) / sum(sizes.values()):.6g}"
        )
    chosen = {name: weights[name] for name in units}
    return Allotment(chosen, units, layouts, request.pattern, limits, remove, request.shares)


def _limit(layout: Layout, request: Request) -> int:
    """Weights that a parameter may lose at most."""
    rows, columns = request.pattern.block(layout)
    total = layout.outputs * layout.columns
    floor = min(total, request.min_keep * min(rows, layout.outputs) * min(columns, layout.columns))
    return min(total - floor, int(request.max_remove_ratio * total + 1e-9))


def _kept_units(units: Tensors, counts: Counts, layouts: Mapping[str, Layout], request: Request) -> dict[str, Tensor]:
    if all(request.pattern.block(layouts[name]) == (1, 1) for name in units):
        return {name: _single(units[name], counts[name], in_rows=request.in_rows) for name in units}
    going = {name: _whole(units[name], request.pattern.unit_sizes(layouts[name]), counts[name]) for name in units}
    _top_up(going, counts, request)
    return {name: going[name].mask() for name in units}


def _single(scores: Tensor, remove: int, *, in_rows: bool) -> Tensor:
    return keep_in_rows(scores, remove) if in_rows else keep_highest([scores], remove)[0]


@dataclass
class _Going:
    """Blocks of one parameter in the order in which they go, and how many of them do."""

    order: Tensor
    gone: Tensor
    """Weights that are gone with each block and those before it."""
    count: int
    shape: torch.Size
    device: torch.device

    @property
    def weights(self) -> int:
        return int(self.gone[self.count - 1]) if self.count else 0

    def may_lose_more(self, request: Request) -> bool:
        most = int(request.max_remove_ratio * int(self.gone[-1]) + 1e-9)
        return self.count < len(self.order) - request.min_keep and int(self.gone[self.count]) <= most

    def lose_one(self) -> int:
        """Let one block more go; returns its weights."""
        before = self.weights
        self.count += 1
        return self.weights - before

    def mask(self) -> Tensor:
        keep = torch.ones(len(self.order), dtype=torch.bool)
        keep[self.order[: self.count]] = False
        return keep.reshape(self.shape).to(self.device)


def _whole(scores: Tensor, sizes: Tensor, remove: int) -> _Going:
    """As many whole blocks as make up at most `remove` weights."""
    order = scores.cpu().flatten().argsort(descending=True, stable=True).flip(0)
    gone = sizes.flatten()[order].cumsum(0)
    return _Going(order, gone, int((gone <= remove).sum()), scores.shape, scores.device)


def _top_up(going: Mapping[str, _Going], counts: Counts, request: Request) -> None:
    """One block more at a time, where most is missing first, until the sum of the counts is reached."""
    missing = sum(counts.values()) - sum(part.weights for part in going.values())
    by_lack = sorted(going, key=lambda name: going[name].weights - counts[name])
    able = [going[name] for name in by_lack if going[name].may_lose_more(request)]
    while missing > 0 and able:
        for part in able:
            if missing > 0:
                missing -= part.lose_one()
        able = [part for part in able if part.may_lose_more(request)]
    if missing > 0:
        raise BudgetError(
            f"{missing:,} weights too few can go in whole blocks of pattern {request.pattern}: each parameter keeps "
            f"{request.min_keep} or more; ask for a lower sparsity"
        )
