"""Exact selection: which k of many scores are the lowest.

Scores that tie are kept from the front: earlier tensors, then lower flat indices. Selection over all scores reads them
twice, in pieces that stay in the processor's cache, and never sorts them (Floyd and Rivest, Expected Time Bounds for
Selection, 1975: a random sample brackets the k-th lowest, one pass counts what is below the bracket and gathers what is
inside). The result does not depend on the sample. Suffixes of shapes: R rows, C columns, G groups, M of a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secateur.spec import ScoreError

PIECE = 1 << 17
"""Scores looked at in one go."""
SAMPLE = 1 << 17
"""Scores in the sample; so many or fewer are ranked as they are."""
SPREAD = 4.0
"""Half the width of the bracket, in standard deviations of a rank in the sample."""
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Threshold:
    """Where the k lowest scores end."""

    value: float
    """The k-th lowest score; all that are lower go."""
    equals_kept: int
    """Scores equal to it that stay: the first ones."""


def lowest(scores: Sequence[Tensor], count: int) -> Threshold:
    """The threshold below which the `count` lowest of all scores lie; count >= 1.

    scores: floating point, of any shapes. Raises ScoreError for NaN among them.
    """
    parts = [_flat(part) for part in scores if part.numel()]
    if any(np.isnan(part.min()) for part in parts):
        raise ScoreError("scores hold NaN, which has no place in an order; look for broken weights or gradients")
    kind = np.result_type(*parts)
    value, below, equal = _kth([part.astype(kind, copy=False) for part in parts], count)
    return Threshold(value, equal - (count - below))


def keep_above(scores: Sequence[Tensor], threshold: Threshold) -> list[Tensor]:
    """Masks of the scores' shapes, False at those that lie below the threshold."""
    left = threshold.equals_kept
    masks: list[Tensor] = []
    for part in scores:
        keep = np.empty(part.numel(), dtype=bool)
        flat = _flat(part)
        value = flat.dtype.type(threshold.value)
        for start in range(0, len(flat), PIECE):
            piece, made = flat[start : start + PIECE], keep[start : start + PIECE]
            np.greater(piece, value, out=made)
            if left:
                equals = np.flatnonzero(piece == value)[:left]
                made[equals] = True
                left -= len(equals)
        masks.append(torch.from_numpy(keep).reshape(part.shape).to(part.device))
    return masks


def keep_highest(scores: Sequence[Tensor], remove: int) -> list[Tensor]:
    """Masks of the scores' shapes, False at exactly the `remove` lowest scores of all of them."""
    if remove == 0:
        return [torch.ones(part.shape, dtype=torch.bool, device=part.device) for part in scores]
    return keep_above(scores, lowest(scores, remove))


def keep_heaviest(scores: Sequence[Tensor], sizes: Sequence[Tensor], remove: int) -> list[Tensor]:
    """Masks of the scores' shapes: the fewest lowest of all scores are False whose sizes make up `remove`.

    sizes: how much each score stands for, of the same shapes.
    """
    flat, heavy = (torch.cat([part.reshape(-1).cpu() for part in parts]) for parts in (scores, sizes))
    order = flat.argsort(descending=True, stable=True).flip(0)
    gone = heavy[order].cumsum(0)
    count = int((gone < remove).sum()) + 1 if remove > 0 else 0
    keep = torch.ones(len(flat), dtype=torch.bool)
    keep[order[:count]] = False
    pieces = keep.split([part.numel() for part in scores])
    return [piece.reshape(part.shape).to(part.device) for piece, part in zip(pieces, scores, strict=True)]


def keep_in_rows(scores_RC: Tensor, remove: int) -> Tensor:
    """Mask (R, C): `remove` in all, as many in each row as in any other; where they do not divide, the first rows lose
    one more."""
    rows = len(scores_RC)
    order = scores_RC.argsort(dim=1, descending=True, stable=True)
    left = torch.full((rows, 1), scores_RC.shape[1] - remove // rows, device=scores_RC.device)
    left[: remove % rows] -= 1
    kept = torch.arange(scores_RC.shape[1], device=scores_RC.device) < left
    return torch.zeros_like(scores_RC, dtype=torch.bool).scatter(1, order, kept)


def keep_n_of_m(scores_GM: Tensor, keep: int) -> Tensor:
    """Mask of the same shape, True at the `keep` highest scores of the last dimension."""
    order = scores_GM.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(scores_GM, dtype=torch.bool).scatter(-1, order[..., :keep], True)


def _flat(part: Tensor) -> Floats:
    """The scores as an array on the CPU; a view where they are there already."""
    wide = part.detach().float() if part.dtype in (torch.float16, torch.bfloat16) else part.detach()
    return wide.reshape(-1).cpu().numpy()


def _kth(parts: Sequence[Floats], count: int) -> tuple[float, int, int]:
    """The count-th lowest score, how many are lower, and how many equal it."""
    total = sum(len(part) for part in parts)
    margin, inside = SPREAD, np.concatenate(parts) if total <= SAMPLE else None
    below = 0
    while inside is None:
        low, high = _bracket(parts, total, count, margin)
        below, found = _between(parts, low, high)
        if below < count <= below + len(found):
            inside = found
        elif below >= count:  # at the lower end or under it
            lower, equal = _count(parts, low)
            if lower < count:
                return low, lower, equal
        elif high < np.inf:
            lower, equal = _count(parts, high)
            if lower < count <= lower + equal:
                return high, lower, equal
        margin *= 4
    value = float(np.partition(inside, count - below - 1)[count - below - 1])
    lower = below + int(np.count_nonzero(inside < value))
    return value, lower, int(np.count_nonzero(inside == value))


def _bracket(parts: Sequence[Floats], total: int, count: int, margin: float) -> tuple[float, float]:
    """Two values that the count-th lowest most likely lies between, from a random sample."""
    draw = np.random.default_rng(count)
    sample = np.sort(
        np.concatenate([part[draw.integers(0, len(part), ceil(SAMPLE * len(part) / total))] for part in parts])
    )
    share = count / total
    middle, slack = share * len(sample), margin * sqrt(share * (1 - share) * len(sample)) + 2
    first, last = int(middle - slack), int(middle + slack)
    return (
        float(sample[first]) if first >= 0 else -np.inf,
        float(sample[last]) if last < len(sample) else np.inf,
    )


def _pieces(parts: Sequence[Floats]) -> Iterator[Floats]:
    for part in parts:
        for start in range(0, len(part), PIECE):
            yield part[start : start + PIECE]


def _between(parts: Sequence[Floats], low: float, high: float) -> tuple[int, Floats]:
    """How many scores are at most `low`, and those that lie strictly between the two."""
    kind = parts[0].dtype.type
    at_most_low, under_high = np.empty((2, PIECE), dtype=bool)
    below, found = 0, []
    for piece in _pieces(parts):
        first, second = at_most_low[: len(piece)], under_high[: len(piece)]
        np.less_equal(piece, kind(low), out=first)
        np.less(piece, kind(high), out=second)
        below += np.count_nonzero(first)
        np.not_equal(first, second, out=second)
        found.append(piece[np.flatnonzero(second)])
    return int(below), np.concatenate(found)


def _count(parts: Sequence[Floats], value: float) -> tuple[int, int]:
    """How many scores are lower than the value, and how many equal it."""
    kind = parts[0].dtype.type
    lower = sum(np.count_nonzero(piece < kind(value)) for piece in _pieces(parts))
    equal = sum(np.count_nonzero(piece == kind(value)) for piece in _pieces(parts))
    return int(lower), int(equal)
