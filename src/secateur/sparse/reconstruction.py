"""Prune single weights and give the others the values that make up for them, by methods that look at data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.score.gradients import batches, first_batch
from secateur.sparse.layerwise import LAYERWISE, prune_layerwise
from secateur.sparse.masks import apply_masks_, layouts, prunable_weights
from secateur.sparse.pattern import Pattern
from secateur.sparse.second_order import Goal, Layer, Task, find_layers, prune_in_rounds
from secateur.sparse.select import keep_highest
from secateur.spec import BudgetError, ScoreError, SelectorError
from secateur.spec.errors import nearest
from secateur.structure import clone
from secateur.structure.capture import private_copy

METHODS = ("second-order", *LAYERWISE)


@dataclass(frozen=True)
class Reconstructed:
    """What to set in the model."""

    masks: dict[str, Tensor]
    """By weight, of its shape, False at zeros."""
    weights: dict[str, Tensor]
    """Values of every tensor that changed: weights, biases, running means of BatchNorms."""
    notes: tuple[str, ...]
    """What was done otherwise than asked, and why."""


def reconstruct(
    model: nn.Module,
    data: Iterable[Any],
    *,
    sparsity: float | Mapping[str, float],
    pattern: Pattern = Pattern("element"),  # noqa: B008  (frozen)
    method: str = "second-order",
    reference: nn.Module | None = None,
    seed: int = 0,
) -> Reconstructed:
    """Masks, and new values for what changes; the given model is not touched.

    data: calibration batches, with or without labels, which are not read; gone through several times, so that a loader
    that draws other crops and mirror images each time is welcome.
    sparsity: the share of all prunable weights together, or of each weight by name (others stay whole). Of the methods
    that go layer by layer a number means the same share of every weight. N:M patterns say it themselves; then the names
    alone count.
    method: `second-order` (of the whole network, docs/glossary.md), or layer by layer `sparsegpt`, `obc`, `wanda`,
    `magnitude`.
    reference: the network whose outputs are to be kept, for a model that is pruned already; else the model itself.

    Weights that are zero stay zero. Weights of layers that no data reaches, and others that are not a linear layer or
    a convolution of their own (lookup tables, packed attention projections, recurrent and transposed layers, shared
    weights), lose the smallest magnitudes. Raises BudgetError, SelectorError and ScoreError for what makes no sense.
    """
    _demand_known(method, pattern)
    held = list(data) if hasattr(data, "__next__") else data
    first = first_batch(batches(held))
    wanted = _shares(model, sparsity, pattern)
    copy = _forgetful(clone(model)).eval().requires_grad_(False)
    layers = find_layers(copy, first[0], wanted)
    others = [name for name in wanted if name not in layers]
    before = {name: tensor.clone() for name, tensor in copy.state_dict().items()}
    masks = _by_magnitude_(copy, {name: wanted[name] for name in others}, pattern)
    generator = torch.Generator().manual_seed(seed)
    if method == "second-order":
        teacher = _forgetful(private_copy(model if reference is None else reference)).eval()
        task = Task(copy, teacher, layers, lambda: batches(held), generator)
        kept = prune_in_rounds(task, _goals(layers, wanted, together=isinstance(sparsity, float)), pattern)
    else:
        kept = prune_layerwise(copy, layers, list(batches(held)), wanted, pattern, LAYERWISE[method], generator)
    masks |= {name: layers[name].layout.tensor(rows[:, :-1]).contiguous() for name, rows in kept.items()}
    after = copy.state_dict()
    changed = {name: after[name] for name in after if not torch.equal(after[name], before[name])}
    return Reconstructed(masks, changed, _notes(others))


def _forgetful(copy: nn.Module) -> nn.Module:
    """The copy, told not to keep keys and values for tokens to come: they would be activations of every layer and
    batch at a time. Language models of transformers read this from their configurations, which are the copy's own."""
    for module in copy.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "use_cache", False) is True:
            config.use_cache = False
    return copy


def _demand_known(method: str, pattern: Pattern) -> None:
    if method not in METHODS:
        raise SelectorError(f"unknown method {method!r} of reconstruction; it is one of: {', '.join(METHODS)}")
    if pattern.kind not in ("element", "n:m"):
        raise SelectorError(f"pattern {pattern}: methods that change weights know element and N:M; choose one of these")


def _shares(model: nn.Module, sparsity: float | Mapping[str, float], pattern: Pattern) -> dict[str, float]:
    """Share of each weight that goes."""
    known = prunable_weights(model)
    given = sparsity if isinstance(sparsity, Mapping) else dict.fromkeys(known, sparsity)
    for name, share in given.items():
        if name not in known:
            raise SelectorError(f"{name!r} is no prunable weight; the nearest: {nearest(name, list(known))}")
        if not 0 <= share < 1:
            raise BudgetError(f"sparsity {share} of {name!r}: expected at least 0 and below 1")
        if not bool(known[name].isfinite().all()):
            raise ScoreError(f"parameter {name!r} holds values that are not finite; load or train finite weights")
    if pattern.keep_per_group is not None:
        kept, size = pattern.keep_per_group
        return dict.fromkeys(given, 1 - kept / size)
    return dict(given)


def _goals(layers: Mapping[str, Layer], wanted: Mapping[str, float], *, together: bool) -> list[Goal]:
    groups = [tuple(layers)] if together else [(name,) for name in layers]
    goals: list[Goal] = []
    for names in groups:
        sizes = {name: layers[name].weight.numel() for name in names}
        gone = sum(wanted[name] * size for name, size in sizes.items())
        goals.append(Goal(names, max(len(names), sum(sizes.values()) - round(gone))))
    return goals


def _by_magnitude_(model: nn.Module, wanted: Mapping[str, float], pattern: Pattern) -> dict[str, Tensor]:
    """Masks of the weights that no layer of its own multiplies with; set to zero."""
    places, weights = layouts(model), prunable_weights(model)
    masks: dict[str, Tensor] = {}
    for name, share in wanted.items():
        scores = weights[name].detach().abs()
        if pattern.keep_per_group is not None:
            masks[name] = pattern.keep_in_groups(scores, places[name])
        else:
            (masks[name],) = keep_highest([scores], round(share * scores.numel()))
    apply_masks_(model, masks)
    return masks


def _notes(others: list[str]) -> tuple[str, ...]:
    if not others:
        return ()
    return (f"no linear layer or convolution of its own that the data reaches: {', '.join(others)}: by magnitude",)
