"""`prune`: look, score, allocate, cut and prove, in one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import nn

from secateur.allocate import needs_times
from secateur.cost import compare_latency
from secateur.pipeline.channels import prune_channels
from secateur.pipeline.config import TIES, PruneConfig, settings_of
from secateur.pipeline.result import Evaluate, PruneResult
from secateur.pipeline.weights import pattern_of, prune_single_weights, weight_config
from secateur.sparse.torch_prune import permanent, read_masks
from secateur.spec import SecateurError
from secateur.spec.budget import Budgets
from secateur.structure.capture import Inputs, normalise_inputs


def prune(
    model: nn.Module,
    example_inputs: Any,
    *,
    budget: Budgets | None = None,
    data: Iterable[Any] | None = None,
    evaluate: Evaluate | None = None,
    verify: bool = True,
    config: PruneConfig | None = None,
    **options: Any,
) -> PruneResult:
    """A physically smaller model within the budget, proved against the reference; or, where `granularity` names a
    pattern of single weights, one with zeros in their place, proved against the masked forward.

    example_inputs: a tensor, a tuple of positional or a dict of keyword inputs.
    budget: `{"macs": 0.5}` keeps half; see `secateur list budgets`. Of single weights `{"sparsity": 0.9}` removes nine
    of ten; N:M takes none.
    data: a loader of calibration batches: inputs, `(inputs, labels)`, or dicts of keyword inputs. With it the default
    chooses by what the healed network loses, and heals.
    evaluate: a function from a model to a number (taken as `accuracy`) or a dict of metrics, called before and after.
    options: the fields of `PruneConfig`, in place of `config`.

    Where the smaller model disagrees with the reference, the axes at fault are searched for, and mended or kept whole
    (`result.structure.notes` says which). The given model is not changed; one that carries masks of
    torch.nn.utils.prune is taken in its plain form, and what they removed stays removed. Raises a SecateurError that
    says what to do when the forward fails, the budget cannot be met, a selector matches nothing, a schema contradicts
    the network, or weights are not finite.
    """
    settings = settings_of(config, options)
    if settings.tie not in TIES:
        raise SecateurError(f"unknown tie {settings.tie!r}; expected one of {', '.join(TIES)}")
    inputs = normalise_inputs(example_inputs)
    model = permanent(model) if read_masks(model) else model
    pattern = pattern_of(settings)
    if pattern is not None:
        weights = weight_config(settings, pattern)
        made = prune_single_weights(model, inputs, budget, data, evaluate, weights, verify=verify)
    else:
        made = prune_channels(model, inputs, budget, _held(data), evaluate, settings, verify=verify)
    in_time = budget is not None and needs_times(budget, settings.round_to)
    return _with_times(made, model, inputs) if settings.latency or in_time else made


def _with_times(made: PruneResult, model: nn.Module, inputs: Inputs) -> PruneResult:
    """The result, with the times of both networks and what they say."""
    speed = compare_latency(model, made.model, inputs)
    said = speed.said(macs_ratio=made.before["macs"] / max(1, made.after["macs"]))
    before, after = {**made.before, **speed.before}, {**made.after, **speed.after}
    return replace(made, before=before, after=after, notes=(*made.notes, said))


def _held(data: Iterable[Any] | None) -> Iterable[Any] | None:
    """The data, as a list where it can be read but once."""
    return list(data) if data is not None and hasattr(data, "__next__") else data
