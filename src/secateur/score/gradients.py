"""Losses and their gradients, sample by sample, so that nothing depends on how the data is cut into batches."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (what torch and safetensors say of their types is incomplete)
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from secateur.spec import ScoreError
from secateur.structure.capture import Inputs, normalise_inputs

Batch = tuple[Inputs, torch.Tensor | None]
"""Inputs, and labels where there are any."""
CHUNK = 32
"""Samples whose gradients are held at once."""


def batches(data: Iterable[Any]) -> Iterator[Batch]:
    """Batches that are inputs, `(inputs, labels)`, or dicts of keyword inputs with optional `labels`, in one form.

    Raises ScoreError for values that are not finite.
    """
    for number, batch in enumerate(data):
        inputs, labels = _in_one_form(batch)
        _demand_finite(number, inputs)
        yield inputs, labels


def _in_one_form(batch: Any) -> Batch:
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key != "labels"}, batch.get("labels")
    if isinstance(batch, list | tuple) and len(batch) == 2 and _is_labels(batch[1]):
        return normalise_inputs(batch[0]), batch[1]
    return normalise_inputs(tuple(batch) if isinstance(batch, list) else batch), None


def first_batch(data: Iterable[Batch]) -> Batch:
    """The first of some batches; raises ScoreError where there is none."""
    found = next(iter(data), None)
    if found is None:
        raise ScoreError("the data holds no batch; give a loader that yields at least one")
    return found


def at_least(data: Iterable[Batch], samples: int) -> list[Batch]:
    """Batches as they come, until they hold so many samples, or all."""
    held: list[Batch] = []
    for batch in data:
        held.append(batch)
        samples -= sample_count(batch[0])
        if samples <= 0:
            break
    return held


def _demand_finite(number: int, inputs: Inputs) -> None:
    for leaf in inputs.values() if isinstance(inputs, dict) else inputs:
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and not bool(leaf.isfinite().all()):
            raise ScoreError(f"batch {number} of the data holds values that are not finite; leave such samples out")


def _is_labels(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() == 1 and not value.is_floating_point()


def chunks(inputs: Inputs, labels: torch.Tensor | None) -> Iterator[Batch]:
    """The batch in parts of at most `CHUNK` samples."""
    for start in range(0, sample_count(inputs), CHUNK):
        rows = slice(start, start + CHUNK)
        yield picked(inputs, rows), labels[rows] if labels is not None else None


def picked(inputs: Inputs, rows: slice | torch.Tensor) -> Inputs:
    """Some samples of a batch; what does not hold one entry per sample stays as it is."""
    count = sample_count(inputs)

    def part(leaf: Any) -> Any:
        return leaf[rows] if isinstance(leaf, torch.Tensor) and leaf.shape[:1] == (count,) else leaf

    if isinstance(inputs, dict):
        return {key: part(value) for key, value in inputs.items()}
    return tuple(part(leaf) for leaf in inputs)


def sample_count(inputs: Inputs) -> int:
    """Samples in a batch."""
    return next(iter(inputs.values() if isinstance(inputs, dict) else inputs)).shape[0]


def loss_of(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    inputs: Inputs,
    labels: torch.Tensor | None,
    temperature: float = 1.0,
) -> Any:
    """Mean cross-entropy of the model with these weights; where there are no labels, against its own top answers."""
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    logits = class_scores(functional_call(model, dict(weights), args, kwargs))
    target = logits.detach().argmax(-1) if labels is None else labels
    return nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]) / temperature, target.reshape(-1))


def class_scores(output: Any) -> torch.Tensor:
    """The logits among what a model returned; raises ScoreError where there are none."""
    if isinstance(output, torch.Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else output[0] if isinstance(output, tuple) else None
    if not isinstance(found, torch.Tensor):
        raise ScoreError(f"gradients need class scores; the model returned {type(output).__name__} without `logits`")
    return found


def gradients_per_sample(
    model: nn.Module, weights: Mapping[str, torch.Tensor], inputs: Inputs, labels: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    """Gradient of each sample's loss, `(samples, *shape)` per parameter."""
    detached = {name: tensor.detach() for name, tensor in weights.items()}

    def one(values: dict[str, torch.Tensor], own: Any, label: Any) -> Any:
        alone: Inputs = (
            {key: value[None] for key, value in own.items()} if isinstance(own, dict) else tuple(v[None] for v in own)
        )
        return loss_of(model, values, alone, None if label is None else label[None])

    function: Callable[..., Any] = grad(one)
    places = (None, 0, None if labels is None else 0)
    try:
        with torch.enable_grad():
            return vmap(function, in_dims=places, randomness="same")(detached, inputs, labels)
    except (RuntimeError, ValueError):  # operators that cannot be batched: one sample after the other
        rows = [_alone(function, detached, inputs, labels, index) for index in range(_length(inputs))]
        return {name: torch.stack([row[name] for row in rows]) for name in detached}


def _length(inputs: Inputs) -> int:
    leaves = list(inputs.values()) if isinstance(inputs, dict) else list(inputs)
    return leaves[0].shape[0]


def _alone(function: Callable[..., Any], weights: Any, inputs: Inputs, labels: Any, index: int) -> Any:
    own = (
        {key: value[index] for key, value in inputs.items()}
        if isinstance(inputs, dict)
        else tuple(value[index] for value in inputs)
    )
    with torch.enable_grad():
        return function(weights, own, None if labels is None else labels[index])
