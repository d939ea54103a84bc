"""Scores for every axis that may be cut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from secateur.score.question import Question
from secateur.score.registry import CRITERIA, Criterion
from secateur.spec import ScoreError, Scores, Structure
from secateur.structure import named_tensors


def score(model: nn.Module, structure: Structure, *, criterion: str | Criterion = "l2", seed: int = 0) -> Scores:
    """Importance of each index of each axis that is chosen for pruning.

    criterion: a registered name, or a function from `Question` to scores.
    Raises ScoreError when weights are not finite or when the criterion scores no axis at all.
    """
    function = CRITERIA.get(criterion) if isinstance(criterion, str) else criterion
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "custom")
    axes = tuple(axis for axis in structure.axes if axis.chosen)
    tensors = {found.name: found.tensor.detach() for found in named_tensors(model)}
    _demand_finite(tensors, structure)
    with torch.no_grad():
        made = function(Question(structure, tensors, axes, seed))
    if axes and not made:
        raise ScoreError(
            f"criterion {name!r} scores no axis of {structure.model}; choose one that applies, for example l2"
        )
    values: dict[str, np.ndarray] = {}
    for axis in axes:
        if axis.name in made:
            result = made[axis.name].to(torch.float64).cpu()
            if not bool(result.isfinite().all()):
                raise ScoreError(f"criterion {name!r} gave scores that are not finite for axis {axis.name!r}")
            values[axis.name] = result.numpy()
    skipped = {axis.name: f"criterion {name} does not apply" for axis in axes if axis.name not in made}
    return Scores(name, values, skipped, seed)


def _demand_finite(tensors: Mapping[str, torch.Tensor], structure: Structure) -> None:
    for name, spec in structure.tensors.items():
        # One sum is the cheapest pass over memory that shows NaN and infinity.
        if spec.kind == "parameter" and not bool(tensors[name].sum().isfinite()):
            raise ScoreError(
                f"parameter {name!r} of {structure.model} holds values that are not finite (NaN or infinity); "
                "train the model to finite weights, or load others"
            )
