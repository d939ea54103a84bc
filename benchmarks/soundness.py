"""What a user does with a network: train it, copy it, save it, prune it, export it. Each check gives None where it
holds, or what went wrong."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

import secateur as sc
from secateur.structure.capture import call_model, normalise_inputs, tensors_in
from secateur.surgery import eval_outputs

ORIGINAL = "the original cannot: "
TOLERANCE = 1e-4


def checks(
    original: nn.Module, inputs: Any, result: sc.PruneResult, fresh: Callable[[], nn.Module]
) -> Iterator[tuple[str, str | None]]:
    """Name and outcome of each check, one after the other."""
    given = normalise_inputs(inputs)
    yield "gradients", _tried(lambda: _gradients(original, result.model, given))
    yield "deepcopy", _tried(lambda: _same(result.model, copy.deepcopy(result.model), given))
    yield "save and load", _tried(lambda: _loads(result, fresh(), given))
    yield "prune again", _tried(lambda: _prunes(result.model, inputs))
    yield "torch.export", _tried(lambda: _exports(original, result.model, given))


def _tried(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _gradients(original: nn.Module, small: nn.Module, inputs: Any) -> str | None:
    """One training step: finite gradients wherever the original has some."""
    try:
        inputs, expected = _first_that_trains(original, inputs)
    except Exception as error:
        return f"{ORIGINAL}{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    got = _trained(small, inputs)
    lost = sorted(expected - got)
    return f"no finite gradient for {lost[0]} and {len(lost) - 1} more" if lost else None


def _first_that_trains(model: nn.Module, inputs: Any) -> tuple[Any, set[str]]:
    """Norms in train mode want more than one value, so a batch of one is doubled where it does not do."""
    try:
        return inputs, _trained(model, inputs)
    except ValueError:
        doubled = tree_map(lambda leaf: torch.cat([leaf, leaf]) if isinstance(leaf, torch.Tensor) else leaf, inputs)
        return doubled, _trained(model, doubled)


def _trained(model: nn.Module, inputs: Any) -> set[str]:
    """Parameters with finite gradients of the sum of all outputs."""
    torch.manual_seed(0)
    learner = copy.deepcopy(model).train()
    outputs = [tensor for tensor in tensors_in(call_model(learner, inputs)) if tensor.requires_grad]
    sum(tensor.abs().float().sum() for tensor in outputs).backward()
    return {
        name
        for name, parameter in learner.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.isfinite().all())
    }


def _same(one: nn.Module, other: nn.Module, inputs: Any) -> str | None:
    pairs = zip(eval_outputs(one, inputs), eval_outputs(other, inputs), strict=True)
    return None if all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs) else "outputs differ"


def _loads(result: sc.PruneResult, fresh: nn.Module, inputs: Any) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        return _same(result.model, sc.load(result.save(Path(folder) / "out"), fresh), inputs)


def _prunes(small: nn.Module, inputs: Any) -> str | None:
    proof = sc.prune(small, inputs, budget={"channels": 0.5}).verification
    return None if proof is not None and proof.ok else f"not verified: {proof and proof.detail}"


def _exports(original: nn.Module, small: nn.Module, inputs: Any) -> str | None:
    try:
        _exported(original, inputs)
    except Exception as error:
        return f"{ORIGINAL}{type(error).__name__}"
    exported = _exported(small, inputs)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # as eval_outputs: some forwards draw random numbers
        outputs = list(tensors_in(call_model(exported, inputs)))
    for expected, got in zip(eval_outputs(small, inputs), outputs, strict=True):
        scale = float(expected.abs().max()) if expected.numel() else 1.0
        if expected.shape != got.shape or float((expected - got).abs().max()) > TOLERANCE * max(scale, 1e-9):
            return "outputs differ"
    return None


def _exported(model: nn.Module, inputs: Any) -> nn.Module:
    positional, named = ((), inputs) if isinstance(inputs, dict) else (inputs, {})
    with torch.no_grad():
        return torch.export.export(model.eval(), positional, named, strict=False).module()
