"""Scores for every axis that may be cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur.score.criteria.entropy import spectral_entropies
from secateur.score.measuring import measure
from secateur.score.question import Question
from secateur.score.registry import CRITERIA, Criterion
from secateur.score.statistics import Statistics
from secateur.spec import Axis, ScoreError, Scores, Structure
from secateur.structure import named_tensors


def score(
    model: nn.Module,
    structure: Structure,
    *,
    criterion: str | Criterion = "l2",
    data: Iterable[Any] | None = None,
    statistics: Statistics | str | Path | None = None,
    by_member: bool = False,
    seed: int = 0,
) -> Scores:
    """Importance of each index of each axis that is chosen for pruning.

    criterion: a registered name, or a function from `Question` to scores.
    data: any loader of batches, for criteria that look at data: inputs, `(inputs, labels)`, or dicts of keyword inputs
    with optional `labels`.
    statistics: what was measured before (or a file of it), in place of data.
    by_member: score each producer of an axis by itself too, for merging by votes.

    Raises ScoreError when weights are not finite, when the criterion scores no axis at all, or when it looks at data
    and none is given.
    """
    function = CRITERIA.get(criterion) if isinstance(criterion, str) else criterion
    name = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "custom")
    axes = tuple(axis for axis in structure.axes if axis.chosen)
    tensors = {found.name: found.tensor.detach() for found in named_tensors(model)}
    _demand_finite(tensors, structure)
    measured = _measured(model, structure, axes, frozenset(getattr(function, "needs", ())), data, statistics, name)
    question = _question(structure, tensors, axes, seed, measured)
    with torch.no_grad():
        made = function(question)
    if axes and not made:
        raise ScoreError(
            f"criterion {name!r} scores no axis of {structure.model}, asked for its "
            f"{', '.join(sorted({axis.role for axis in axes}))}; choose one that applies, for example l2"
        )
    values: dict[str, np.ndarray] = {}
    for axis in axes:
        if axis.name in made:
            result = made[axis.name].to(torch.float64).cpu()
            if not bool(result.isfinite().all()):
                raise ScoreError(f"criterion {name!r} gave scores that are not finite for axis {axis.name!r}")
            values[axis.name] = result.numpy()
    members = _members(function, question) if by_member else {}
    skipped = {axis.name: f"criterion {name} does not apply" for axis in axes if axis.name not in made}
    return Scores(name, values, members, skipped, seed)


def layer_entropies(model: nn.Module, structure: Structure) -> dict[str, float]:
    """Spectral entropy (AFIE) of the layers that produce each axis; see the criterion `entropy-spectral`."""
    axes = tuple(axis for axis in structure.axes if axis.chosen)
    tensors = {found.name: found.tensor.detach() for found in named_tensors(model)}
    return spectral_entropies(_question(structure, tensors, axes))


def _question(
    structure: Structure,
    tensors: Mapping[str, torch.Tensor],
    axes: Sequence[Axis],
    seed: int = 0,
    measured: Statistics | None = None,
) -> Question:
    """Blocks apart from axes that run through tensors."""
    blocks = tuple(axis for axis in axes if axis.role == "blocks")
    others = tuple(axis for axis in axes if axis.role != "blocks")
    return Question(structure, tensors, others, seed, measured, blocks=blocks)


def _members(function: Criterion, question: Question) -> dict[str, tuple[np.ndarray, ...]]:
    """Scores of each producer by itself, for axes that several produce."""
    found: dict[str, tuple[np.ndarray, ...]] = {}
    for axis in question.axes:
        producers = [name for name, _ in question.producers(axis)]
        if len(producers) > 1:
            with torch.no_grad():
                made = [function(replace(question, axes=(axis,), blocks=(), only=name)) for name in producers]
            if all(axis.name in scores for scores in made):
                found[axis.name] = tuple(scores[axis.name].to("cpu", torch.float64).numpy() for scores in made)
    return found


def _measured(
    model: nn.Module,
    structure: Structure,
    axes: Sequence[Axis],
    needs: frozenset[str],
    data: Iterable[Any] | None,
    statistics: Statistics | str | Path | None,
    name: str,
) -> Statistics | None:
    if not needs:
        return None
    if statistics is not None:
        found = statistics if isinstance(statistics, Statistics) else Statistics.load(statistics)
        if found.fingerprint != structure.fingerprint:
            raise ScoreError("the statistics were measured on another model: the fingerprints differ; measure again")
        return found
    if data is None:
        raise ScoreError(f"criterion {name!r} looks at data; give data= (--data on the command line)")
    return measure(model, structure, axes, data, needs)


def _demand_finite(tensors: Mapping[str, torch.Tensor], structure: Structure) -> None:
    for name, spec in structure.tensors.items():
        # One sum is the cheapest pass over memory that shows NaN and infinity.
        if spec.kind == "parameter" and not bool(tensors[name].sum().isfinite()):
            raise ScoreError(
                f"parameter {name!r} of {structure.model} holds values that are not finite (NaN or infinity); "
                "train the model to finite weights, or load others"
            )
