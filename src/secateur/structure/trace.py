"""From a model and example inputs to its structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from secateur.spec import Structure, TraceError
from secateur.structure import algebra
from secateur.structure.algebra import Node
from secateur.structure.attributes import read_attribute
from secateur.structure.capture import Inputs, capture, capture_changed, capture_with_values, normalise_inputs
from secateur.structure.clone import named_tensors
from secateur.structure.collector import collector_paused
from secateur.structure.depth import Depth, find_depth
from secateur.structure.freeze import Found, freeze
from secateur.structure.modules import bind_modules, bind_operators
from secateur.structure.polynomial import Polynomial
from secateur.structure.program import Program
from secateur.structure.rescale import Scale, find_scales
from secateur.structure.resolve import Opaque, Resolver
from secateur.structure.tracker import Tracker
from secateur.structure.weights import find_norms, find_reads


@dataclass(frozen=True)
class Traced:
    """A structure together with the program it was read from, for replaying."""

    structure: Structure
    program: Program
    tracker: Tracker


def trace(model: nn.Module, example_inputs: Any, *, blocks: bool = True) -> Structure:
    """The structure of the model: what may be cut together, what may not, and why.

    example_inputs: a tensor, a tuple of positional or a dict of keyword inputs; only shapes matter, unless the
    forward looks at values. blocks: also find the residual blocks that can leave as a whole, which takes further runs
    of the forward where the model's own code walks their list. Raises TraceError when the model's own forward fails.
    The model is not changed.
    """
    return trace_program(model, normalise_inputs(example_inputs), blocks=blocks).structure


def trace_program(model: nn.Module, inputs: Inputs, *, with_values: bool = False, blocks: bool = True) -> Traced:
    """Like `trace`, with the captured eval-mode program beside the structure.

    with_values: run on real tensors in any case, so that constants of the code hold their values.
    """
    with collector_paused():
        return _traced(model, inputs, with_values=with_values, blocks=blocks)


def _traced(model: nn.Module, inputs: Inputs, *, with_values: bool, blocks: bool) -> Traced:
    tensors = tuple(named_tensors(model))
    program = capture_with_values(model, inputs) if with_values else capture(model, inputs)
    tracker = Tracker()
    resolver = Resolver(tracker)
    scales = _run(model, program, tracker, resolver)
    macs, activations = tuple(tracker.macs_terms), tuple(tracker.activations)
    unused = [found.name for found in tensors if found.kind == "parameter" and found.name not in tracker.used]
    if unused:
        scales += _run_in_train_mode(model, inputs, tracker, resolver, unused)
        tracker.run(program)
    scales += bind_modules(model, tracker, resolver)
    _pin_uncompensated(scales, resolver)
    resolution = resolver.resolve(lambda key: read_attribute(model, key))
    _settle(scales, resolver)
    name = f"{type(model).__module__}.{type(model).__qualname__}"
    found = Found(
        name,
        tuple(found for found in tensors if found.name in tracker.named),  # not caches that setting a mode empties
        tracker,
        resolution,
        tuple(scales),
        macs,
        activations,
        tuple(find_norms(program)),
        find_reads(program),
        _depth(model, inputs, program, tracker) if blocks else Depth(),
    )
    return Traced(freeze(found), program, tracker)


def _depth(model: nn.Module, inputs: Inputs, program: Program, tracker: Tracker) -> Depth:
    return find_depth(model, program, tracker, lambda change: capture_changed(model, inputs, program.device, change))


def _run(model: nn.Module, program: Program, tracker: Tracker, resolver: Resolver) -> list[Scale]:
    tracker.run(program)
    resolver.collect(program)
    bind_operators(model, program, tracker, resolver)
    return find_scales(program, tracker.dims)


def _run_in_train_mode(
    model: nn.Module, inputs: Inputs, tracker: Tracker, resolver: Resolver, unused: list[str]
) -> list[Scale]:
    """Parts that run only in training (auxiliary heads) sit on the same axes; else their sizes would not fit."""
    failure: TraceError | None = None
    for larger in (False, True):
        try:
            program = capture(model, _enough(inputs, larger=larger), train=True)
        except TraceError as error:
            failure = failure or error
            continue
        return _run(model, program, tracker, resolver)
    tracker.notes.append(
        f"{len(unused)} parameters are read neither in eval mode ({unused[0]}, ...) nor in train: {failure}"
    )
    return []


def _enough(inputs: Inputs, *, larger: bool) -> Inputs:
    """Two samples where there was one, because norms in train mode need more than one value; and, to be tried when that
    is not enough (auxiliary heads with large kernels), images of twice the size."""

    def grown(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or leaf.dim() == 0:
            return leaf
        made = torch.cat([leaf, leaf]) if leaf.shape[0] == 1 else leaf
        if larger and leaf.dim() == 4 and leaf.is_floating_point():
            made = made.repeat(1, 1, 2, 2)
        return made

    return tree_map(grown, inputs)


def _pin_uncompensated(scales: list[Scale], resolver: Resolver) -> None:
    """A size from which the code computes a scale that no weights can take up must not change."""
    for scale in scales:
        if not scale.rows:
            resolver.uses.append((_origin(scale), scale.where))


def _origin(scale: Scale) -> Any:
    return ("node", scale.origin) if isinstance(scale.origin, Node) else scale.origin


def _settle(scales: list[Scale], resolver: Resolver) -> None:
    """Give each scale the dimension that its number follows, now that attributes are bound."""
    for scale in scales:
        size = _numerator(_origin(scale), resolver)
        scale.origin = size if size is not None else algebra.ONE


def _numerator(origin: Any, resolver: Resolver) -> Node | None:
    """The dimension whose relative change is that of the number: constants divide out."""
    try:
        if origin[0] == "//" and resolver.value_of(origin[2]).is_constant:
            return _numerator(origin[1], resolver)
        value = resolver.value_of(origin)
    except Opaque:
        return None
    return _as_node(value)


def _as_node(value: Polynomial) -> Node | None:
    if len(value.terms) != 1:
        return None
    return algebra.merge([value.atoms[key] for key in next(iter(value.terms))])
