"""What keeps signals and gradients flowing, for networks that are pruned before they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from secateur.score.gradients import loss_of
from secateur.score.registry import needs
from secateur.sparse.criteria.registry import WEIGHT_CRITERIA, WeightQuestion
from secateur.sparse.select import keep_highest
from secateur.spec import ScoreError
from secateur.structure.capture import tensors_in

ROUNDS = 100
"""Of SynFlow."""
TEMPERATURE = 200.0
"""What GraSP divides the logits by."""


@WEIGHT_CRITERIA.register("grasp", "how much less gradient would flow without the weight; reads labels where given")
@needs("batches")
def grasp(question: WeightQuestion) -> dict[str, Tensor]:
    """Picking Winning Tickets Before Training by Preserving Gradient Flow, 2020, eq. 8: the weights with the largest
    -w (H g) go first, so the score is w (H g); g and H over the data, at temperature 200. Two passes over the data, in
    place of the paper's one batch per part."""
    leaves = _leaves(question.model)
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        gradient = _mean_gradients(question, leaves)
        curved = {name: torch.zeros_like(gradient[name]) for name in question.weights}
        for inputs, labels in question.batches:
            loss = loss_of(question.model, leaves, inputs, labels, TEMPERATURE)
            own = _gradients(loss, leaves, create_graph=True)
            along = sum((own[name] * gradient[name]).sum() for name in question.weights)
            for name, part in _gradients(along, leaves).items():
                if name in curved:
                    curved[name] += part
    return {name: weight * curved[name] for name, weight in question.weights.items()}


def _mean_gradients(question: WeightQuestion, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    total = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for inputs, labels in question.batches:
        loss = loss_of(question.model, leaves, inputs, labels, TEMPERATURE)
        for name, part in _gradients(loss, leaves).items():
            total[name] += part / len(question.batches)
    return total


def _leaves(model: nn.Module) -> dict[str, Tensor]:
    named = model.named_parameters()
    return {name: tensor.detach().requires_grad_() for name, tensor in named if tensor.is_floating_point()}


def _gradients(value: Any, leaves: Mapping[str, Tensor], *, create_graph: bool = False) -> dict[str, Tensor]:
    made = torch.autograd.grad(value, list(leaves.values()), create_graph=create_graph, materialize_grads=True)
    return dict(zip(leaves, made, strict=True))


@WEIGHT_CRITERIA.register("synflow", "share in the flow through all paths of absolute weights; needs no data")
def synflow(question: WeightQuestion) -> dict[str, Tensor]:
    """Pruning Neural Networks without Any Data by Iteratively Conserving Synaptic Flow, 2020, algorithm 1: inputs of
    ones, absolute weights and buffers in double precision, 100 rounds with densities d^(k / 100), one threshold for the
    whole network. A weight that went in an earlier round scores lower than any that went later."""
    state = _absolute(question.model)
    inputs = tree_map(_ones, question.inputs)
    kept = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in question.weights.items()}
    scores: dict[str, Tensor] = {name: torch.zeros_like(state[name]) for name in kept}
    total = sum(mask.numel() for mask in kept.values())
    for number in range(1, ROUNDS + 1):
        flow = _flow(question.model, state, kept, inputs)
        for name, mask in kept.items():
            scores[name] = torch.where(mask, flow[name], scores[name])
        gone = round((1 - (1 - question.sparsity) ** (number / ROUNDS)) * total)
        before = kept
        kept = dict(zip(kept, keep_highest(list(scores.values()), gone), strict=True))
        for name in kept:
            scores[name] = scores[name].masked_fill(before[name] & ~kept[name], number - ROUNDS - 1)
    return scores


def _absolute(model: nn.Module) -> dict[str, Tensor]:
    held = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().double().abs() if tensor.is_floating_point() else tensor for name, tensor in held}


def _ones(leaf: Any) -> Any:
    floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return torch.ones_like(leaf, dtype=torch.float64) if floating else leaf


def _flow(model: nn.Module, state: Mapping[str, Tensor], kept: Mapping[str, Tensor], inputs: Any) -> dict[str, Tensor]:
    """Weight times derivative of the sum of all outputs."""
    masked = {name: (state[name] * mask).requires_grad_() for name, mask in kept.items()}
    args, kwargs = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    with torch.enable_grad():
        outputs = tensors_in(functional_call(model, {**state, **masked}, args, kwargs))
        found = _gradients(sum(output.sum() for output in outputs if output.is_floating_point()), masked)
    flow = {name: masked[name].detach() * found[name] for name in masked}
    if not all(bool(values.isfinite().all()) for values in flow.values()):
        raise ScoreError("synflow: the sum over all paths of this network is beyond double precision; use another")
    return flow
