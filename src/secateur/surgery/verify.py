"""The proof: the shrunk network computes what the reference computes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from secateur.spec import Plan, Verification
from secateur.structure import Traced, trace_program
from secateur.structure.capture import Inputs, call_model, call_modules, normalise_inputs, tensors_in
from secateur.structure.following import Diverged
from secateur.structure.modes import eval_mode
from secateur.surgery.reference import reference_outputs

COARSE = {torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Relative difference that rounding explains in coarse dtypes."""


def verify(
    model: nn.Module, small: nn.Module, plan: Plan, example_inputs: Any, *, tolerance: float | None = None
) -> Verification:
    """Compare the shrunk model with the reference on these inputs, in eval mode.

    Where all outputs are empty or zero (a detector that finds nothing, a head that starts at zero), the outputs of the
    modules inside are compared instead, as far as they have the same shapes. The largest absolute difference over all
    output tensors must stay below `tolerance` times the largest absolute output; when none is given, below what the
    parameters' dtype explains (1e-4 in single precision). Both models come back in the mode they were in.
    """
    inputs = normalise_inputs(example_inputs)
    return verify_traced(model, small, plan, inputs, trace_program(model, inputs, blocks=False), tolerance=tolerance)


def verify_traced(
    model: nn.Module, small: nn.Module, plan: Plan, inputs: Inputs, traced: Traced, *, tolerance: float | None = None
) -> Verification:
    """Like `verify`, with a capture that was made before."""
    tolerance = tolerance_of(small) if tolerance is None else tolerance
    try:
        expected, got = _both(model, small, plan, inputs, traced, of_modules=False)
        if not any(bool(tensor.any()) for tensor in expected):
            expected, got = _comparable(*_both(model, small, plan, inputs, traced, of_modules=True))
    except _Unproven as failure:
        return Verification(math.inf, math.inf, False, tolerance, str(failure))
    if len(expected) != len(got):
        detail = f"the shrunk model gives {len(got)} output tensors, the reference {len(expected)}"
        return Verification(math.inf, math.inf, False, tolerance, detail)
    found = compared(expected, got, tolerance)
    return found if found.ok or found.detail else replace(found, detail=_likely_reason(traced))


class _Unproven(Exception):
    """One of the two could not be run; says why."""


def _both(
    model: nn.Module, small: nn.Module, plan: Plan, inputs: Inputs, traced: Traced, *, of_modules: bool
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What the reference and the shrunk model put out."""
    try:
        expected = _expected(model, plan, inputs, traced, of_modules=of_modules)
    except Diverged as difference:
        raise _Unproven(f"the forward takes another path when entries are missing: {difference}") from difference
    try:
        with _same_randomness():
            return expected, _outputs(small, inputs, of_modules=of_modules)
    except Exception as error:  # the user's code may raise anything at sizes that it was not written for
        raise _Unproven(f"the forward of the shrunk model failed: {type(error).__name__}: {error}") from error


def _comparable(expected: list[torch.Tensor], got: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Pairs of the same shape: of tensors inside the models, those along no axis that was cut."""
    pairs = [(a, b) for a, b in zip(expected, got, strict=False) if a.shape == b.shape and a.numel()]
    if not pairs:
        raise _Unproven(
            "all outputs are empty or zero on these inputs, and nothing inside can be compared; give other inputs"
        )
    return [a for a, _ in pairs], [b for _, b in pairs]


def _likely_reason(traced: Traced) -> str:
    drawn = [op for op in traced.program.ops if torch.Tag.nondeterministic_seeded in op.target.tags]
    if drawn:
        return f"the forward draws random numbers ({drawn[0].target}), other ones when shapes change"
    return "the code computes from sizes or values outside of torch; name its layers in ignore= to keep them whole"


def tolerance_of(model: nn.Module) -> float:
    """The relative difference that the parameters' dtype explains."""
    return max((COARSE[parameter.dtype] for parameter in model.parameters() if parameter.dtype in COARSE), default=1e-4)


def _expected(model: nn.Module, plan: Plan, inputs: Inputs, traced: Traced, *, of_modules: bool) -> list[torch.Tensor]:
    try:
        with _same_randomness():
            return reference_outputs(model, traced, plan, inputs, of_modules=of_modules)
    except Diverged:  # some code asks where its tensors are
        again = trace_program(model, inputs, with_values=True, blocks=False)
        with _same_randomness():
            return reference_outputs(model, again, plan, inputs, of_modules=of_modules)


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Forwards that draw random numbers draw the same ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def eval_outputs(model: nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    """Output tensors of one forward in eval mode, with the same random numbers on every call; the model comes back in
    the mode it was in."""
    with _same_randomness():
        return _outputs(model, inputs, of_modules=False)


def _outputs(model: nn.Module, inputs: Inputs, *, of_modules: bool) -> list[torch.Tensor]:
    first = next(iter(model.parameters()), torch.empty(0))
    given = tree_map(lambda leaf: leaf.to(first.device) if isinstance(leaf, torch.Tensor) else leaf, inputs)
    with torch.no_grad(), eval_mode(model):
        return call_modules(model, given) if of_modules else list(tensors_in(call_model(model, given)))


def compared(expected: list[torch.Tensor], got: list[torch.Tensor], tolerance: float) -> Verification:
    """The largest difference between outputs, of as many tensors each."""
    worst = scale = 0.0
    for number, (reference, made) in enumerate(zip(expected, got, strict=True)):
        if reference.shape != made.shape:
            detail = f"output {number}: shape {tuple(made.shape)}, the reference has {tuple(reference.shape)}"
            return Verification(math.inf, math.inf, False, tolerance, detail)
        if reference.numel() == 0:
            continue
        a, b = reference.to(torch.float64), made.to(torch.float64)
        finite = a.isfinite()
        same = a.isnan() & b.isnan() | (a == b)  # of what is not finite
        if not bool((finite & b.isfinite() | same).all()):
            detail = f"output {number}: not finite, or otherwise so, where the reference is not"
            return Verification(math.inf, math.inf, False, tolerance, detail)
        if not bool(finite.any()):
            detail = f"output {number}: no entry of the reference is finite, so there is nothing to compare"
            return Verification(math.inf, math.inf, False, tolerance, detail)
        worst = max(worst, float((a - b)[finite].abs().max()))
        scale = max(scale, float(a[finite].abs().max()))
    relative = worst / scale if scale else worst
    return Verification(worst, relative, relative <= tolerance, tolerance)
