"""Sensitivity analysis: cut one axis alone at several ratios and see what the metric loses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from secateur.allocate.knobs import Limits, make_knobs
from secateur.allocate.merge import chosen
from secateur.spec import Plan, Scores, Structure
from secateur.spec.plan import Indices
from secateur.surgery import shrink

RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9)


def sensitivity_curves(
    model: nn.Module,
    structure: Structure,
    scores: Scores,
    evaluate: Callable[[nn.Module], float],
    *,
    ratios: Sequence[float] = RATIOS,
) -> dict[str, list[tuple[float, float]]]:
    """Axis -> (removed share, loss in the metric) for each ratio; axes that are tied are cut together.

    evaluate: a number that is better when it is larger, such as the accuracy on a part of the training set. It is
    called once for the model and once for each axis and ratio. As Distiller's sensitivity analysis, with real cuts.
    """
    dense = evaluate(model)
    curves: dict[str, list[tuple[float, float]]] = {}
    for knob in make_knobs(structure, scores, Limits()):
        points: list[tuple[float, float]] = []
        levels = dict.fromkeys(max(int(knob.levels[0]), round(knob.full * (1 - ratio))) for ratio in ratios)
        for level in levels:
            if level == knob.full:
                continue
            kept: dict[str, Indices] = {
                axis: chosen(scores, axis, size, "score") for axis, size in knob.sizes(level).items()
            }
            points.append((1 - level / knob.full, dense - evaluate(shrink(model, Plan(structure, kept)))))
        curves |= {axis: points for axis, _ in knob.axes}
    return curves
