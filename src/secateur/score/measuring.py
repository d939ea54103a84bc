"""Measure a model on data: activations as its consumers read them, what blocks do, and gradients sample by sample."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (what torch and safetensors say of their types is incomplete)
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from secateur.score.gradients import batches, chunks, gradients_per_sample, loss_of
from secateur.score.influence import watching_blocks
from secateur.score.reduction import columns, sum_along
from secateur.score.statistics import Statistics
from secateur.spec import Axis, ScoreError, Structure
from secateur.spec.expr import Expr, axes_of
from secateur.structure import Traced, named_tensors, trace_program
from secateur.structure.capture import Inputs, as_captured, call_model, private_copy
from secateur.structure.following import Following
from secateur.structure.weights import weights_read

ACTIVATIONS = frozenset({"moments", "pooled"})
GATES = frozenset({"taylor", "mask-fisher"})
GRADIENTS = GATES | {"fisher", "mean-gradient", "batch-taylor"}


def measure(
    model: nn.Module, structure: Structure, axes: Sequence[Axis], data: Iterable[Any], needs: frozenset[str]
) -> Statistics:
    """Statistics of these kinds over all batches of the data, in eval mode; the model is not changed.

    data: batches that are inputs, `(inputs, labels)`, or dicts of keyword inputs with optional `labels`. Where there
    are no labels, gradients are those of the model's own top answer. Under torch.distributed the sums of all ranks
    are added up. Raises ScoreError for data without a batch.
    """
    found = Statistics(structure.fingerprint)
    names = {axis.name for axis in axes}
    blocks = [block for block in structure.blocks if block.axis in names]
    copy = private_copy(model).eval()
    traced: Traced | None = None
    empty = True
    for inputs, labels in batches(data):
        empty = False
        if needs & ACTIVATIONS:
            traced = traced if traced is not None else trace_program(model, inputs, blocks=False)
            _watch(copy, traced, structure, axes, inputs, labels, needs, found)
        if "influence" in needs:
            with torch.no_grad(), watching_blocks(copy, blocks, found):
                call_model(copy, inputs)
        if needs & GRADIENTS:
            _differentiate(copy, structure, axes, inputs, labels, needs, found)
    if empty:
        raise ScoreError("the data holds no batch; give a loader that yields at least one")
    _add_up_ranks(found)
    return found


def _add_up_ranks(found: Statistics) -> None:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for key in sorted(found.sums):
        torch.distributed.all_reduce(found.sums[key])
    for key in sorted(found.samples):
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, found.samples[key].numpy())
        found.samples[key] = torch.cat([torch.from_numpy(rows) for rows in gathered])


# Activations.


def _watch(
    model: nn.Module,
    traced: Traced,
    structure: Structure,
    axes: Sequence[Axis],
    inputs: Inputs,
    labels: torch.Tensor | None,
    needs: frozenset[str],
    found: Statistics,
) -> None:
    with as_captured(model), _Watching(traced, structure, axes, needs, found).following(model):
        call_model(model, inputs)
    if "pooled" in needs and labels is not None:
        found.append("labels/", labels[:, None].to(torch.float32))


class _Watching(Following):
    """Adds up what each consumer of an axis reads."""

    def __init__(
        self, traced: Traced, structure: Structure, axes: Sequence[Axis], needs: frozenset[str], found: Statistics
    ) -> None:
        super().__init__(traced)
        self.structure = structure
        self.axes = {axis.name: axis for axis in axes}
        self.needs = needs
        self.found = found
        self.consumers = dict(weights_read(self.program))

    def meet(self, number: int, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The operator's own output; its input is looked at."""
        weight = self.consumers.get(number)
        data = 1 if func is torch.ops.aten.addmm.default else 0
        for reduction in self.tracker.reductions.get(number, ()) if weight is not None else ():
            if reduction.arg != data:
                continue
            ref = self.program.ops[number].args[data]
            exprs = [self.names.expr(node) for node in self.tracker.dims(ref.id)]
            for dim in reduction.dims:
                for name in set(axes_of(exprs[dim])) & self.axes.keys():
                    self._add(f"{name}/{weight}", args[reduction.arg], exprs, self.axes[name])
        return func(*args, **kwargs)

    def _add(self, key: str, x: torch.Tensor, exprs: list[Expr], axis: Axis) -> None:
        def total(values: torch.Tensor) -> torch.Tensor:
            return sum_along(values, exprs, axis, self.structure)

        if "moments" in self.needs:
            for kind, values in (
                ("count", torch.ones_like(x)),
                ("sum", x),
                ("square", x * x),
                ("zero", (x == 0).to(x)),
            ):
                self.found.add(f"{kind}/{key}", total(values))
        if "pooled" in self.needs:
            self.found.append(f"pooled/{key}", _pooled(x, exprs, axis, self.structure))


def _pooled(x: torch.Tensor, exprs: list[Expr], axis: Axis, structure: Structure) -> torch.Tensor:
    """Mean over space per sample and index, `(samples, size)`; rows of a matrix count as samples."""
    ones = sum_along(torch.ones_like(x[0]), exprs[1:], axis, structure)
    rows = [sum_along(sample, exprs[1:], axis, structure) / ones for sample in x]
    return torch.stack(rows).reshape(len(rows), -1)


# Gradients.


def _differentiate(
    model: nn.Module,
    structure: Structure,
    axes: Sequence[Axis],
    inputs: Inputs,
    labels: torch.Tensor | None,
    needs: frozenset[str],
    found: Statistics,
) -> None:
    weights = {
        item.name: item.tensor
        for item in named_tensors(model)
        if item.kind == "parameter" and item.tensor.is_floating_point()
    }
    if "batch-taylor" in needs:
        _add_batch(model, weights, inputs, labels, found)
    if needs & (GRADIENTS - {"batch-taylor"}):
        for part, own_labels in chunks(inputs, labels):
            gradients = gradients_per_sample(model, weights, part, own_labels)
            _add_samples(gradients, weights, structure, axes, needs, found)


def _add_samples(
    gradients: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    structure: Structure,
    axes: Sequence[Axis],
    needs: frozenset[str],
    found: Statistics,
) -> None:
    count = next(iter(gradients.values())).shape[0]
    found.add("gradients#", torch.tensor(float(count)))
    for axis in axes if needs & GATES else ():
        gates = _gates(gradients, weights, structure, axis)
        if gates is None:
            continue
        if "taylor" in needs:
            found.add(f"taylor/{axis.name}", (gates**2).sum(0))
        if "mask-fisher" in needs:
            rows = gates.flatten(1)
            found.add(f"mask-fisher/{axis.name}", rows.T @ rows)
    for name, gradient in gradients.items():
        if "fisher" in needs:
            found.add(f"fisher/{name}", (gradient**2).sum(0))
        if "mean-gradient" in needs:
            found.add(f"mean-gradient/{name}", gradient.sum(0))


def _gates(
    gradients: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], structure: Structure, axis: Axis
) -> torch.Tensor | None:
    """Per sample, the derivative of the loss along removing each index, `(samples, ...)`: the sum of gradient times
    weight over the columns of all weights that read the axis. None for an axis that no product reads."""
    total: torch.Tensor | None = None
    for name, dim in structure.reads.items():
        dims = structure.tensors[name].dims
        if axis.name not in axes_of(dims[dim]):
            continue
        product = gradients[name] * weights[name].detach()
        idle = list(range(3, product.dim()))
        product = product.sum(idle, keepdim=True) if idle else product
        only = columns(dims, dim, axis)
        own = torch.stack([sum_along(sample, only, axis, structure) for sample in product])
        total = own if total is None else total + own
    return total


def _add_batch(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    inputs: Inputs,
    labels: torch.Tensor | None,
    found: Statistics,
) -> None:
    leaves = {name: tensor.detach().requires_grad_(True) for name, tensor in weights.items()}
    with torch.enable_grad():
        loss = loss_of(model, leaves, inputs, labels)
        gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    found.add("batches#", torch.tensor(1.0))
    for (name, tensor), gradient in zip(leaves.items(), gradients, strict=True):
        found.add(f"batch-taylor/{name}", (gradient * tensor.detach()) ** 2)
