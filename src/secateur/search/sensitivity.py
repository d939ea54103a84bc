"""Sensitivity analysis: cut one axis, or one weight tensor, alone at several ratios and see what the metric loses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from secateur.allocate.knobs import Limits, make_knobs
from secateur.allocate.merge import chosen
from secateur.search.journal import Journal
from secateur.sparse import WEIGHT_ALLOCATORS, apply_masks_
from secateur.sparse.making import Request, make_masks
from secateur.sparse.masks import layouts, prunable_weights
from secateur.sparse.pattern import Pattern
from secateur.spec import BudgetError, Plan, Scores, Structure
from secateur.spec.plan import Indices
from secateur.structure import clone
from secateur.surgery import shrink

RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9)
Curves = dict[str, list[tuple[float, float]]]
"""Axis or weight tensor -> (removed share, loss in the metric) for each ratio."""


@dataclass(frozen=True)
class Level:
    """One cut to be judged."""

    names: tuple[str, ...]
    """What is cut: axes that are tied, or one weight tensor."""
    ratio: float
    """Share of it that goes."""
    make: Callable[[], nn.Module]


def sensitivity_curves(
    model: nn.Module,
    structure: Structure,
    scores: Scores,
    evaluate: Callable[[nn.Module], float],
    *,
    ratios: Sequence[float] = RATIOS,
    journal: Journal | None = None,
) -> Curves:
    """What each axis loses when it is cut alone; axes that are tied are cut together.

    evaluate: a number that is better when it is larger, such as the accuracy on a part of the training set. It is
    called once for the model and once for each axis and ratio that the journal does not hold. As Distiller's
    sensitivity analysis, with real cuts.
    """
    return judged(model, channel_levels(model, structure, scores, ratios), evaluate, journal)


def judged(
    model: nn.Module,
    levels: Iterable[Level],
    evaluate: Callable[[nn.Module], float],
    journal: Journal | None = None,
) -> Curves:
    """The curves of these levels: each evaluated once, or read from the journal."""

    def number(name: str, make: Callable[[], nn.Module]) -> float:
        return evaluate(make()) if journal is None else journal.once(name, lambda: evaluate(make()))

    dense = number("dense", lambda: model)
    curves: Curves = {}
    for level in levels:
        lost = dense - number(f"{level.names[0]} {level.ratio:.6g}", level.make)
        for name in level.names:
            curves.setdefault(name, []).append((level.ratio, lost))
    return curves


def channel_levels(
    model: nn.Module, structure: Structure, scores: Scores, ratios: Sequence[float] = RATIOS
) -> Iterator[Level]:
    """Every axis, or set of tied axes, cut to the size nearest to each ratio."""
    _demand_ratios(ratios)
    for knob in make_knobs(structure, scores, Limits()):
        levels = dict.fromkeys(max(int(knob.levels[0]), round(knob.full * (1 - ratio))) for ratio in ratios)
        for level in levels:
            if level < knob.full:
                kept: dict[str, Indices] = {
                    axis: chosen(scores, axis, size, "score") for axis, size in knob.sizes(level).items()
                }
                plan = Plan(structure, kept)
                names = tuple(axis for axis, _ in knob.axes)
                yield Level(names, 1 - level / knob.full, lambda plan=plan: shrink(model, plan))


def weight_levels(
    model: nn.Module, scores: Mapping[str, Tensor], pattern: Pattern, ratios: Sequence[float] = RATIOS
) -> Iterator[Level]:
    """Every weight tensor with zeros in this pattern at each ratio that takes some of it and leaves some; N:M has one
    ratio, its own.

    scores: of each weight, by tensor (`secateur.sparse.pruning.score_weights`).
    """
    _demand_ratios(ratios)
    places, weights = layouts(model), prunable_weights(model)
    own = pattern.keep_per_group
    request = Request(pattern, None, WEIGHT_ALLOCATORS.get("uniform"), {})
    for name, score in scores.items():
        largest = int(pattern.unit_sizes(places[name])[0, 0]) if own is None else 0
        for ratio in [1 - own[0] / own[1]] if own else ratios:
            if own is None and not 1 <= round(ratio * score.numel()) <= score.numel() - largest:
                continue
            asked = replace(request, sparsity=ratio)

            def make(name: str = name, asked: Request = asked) -> nn.Module:
                masks = make_masks({name: scores[name]}, {name: weights[name]}, {name: places[name]}, asked)
                return apply_masks_(clone(model), masks)

            yield Level((name,), ratio, make)


def _demand_ratios(ratios: Sequence[float]) -> None:
    bad = [ratio for ratio in ratios if not 0 < ratio < 1]
    if bad:
        raise BudgetError(f"ratio {bad[0]}: the share that is cut must be between 0 and 1")
