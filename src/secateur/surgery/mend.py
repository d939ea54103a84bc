"""Sizes that code uses out of sight: found by trial, followed where an attribute holds them, else kept whole.

Numbers that leave Python's integers (through strings, numpy, other libraries) cannot be traced. When the shrunk model
disagrees with the reference, its axes are cut a few at a time until those at fault are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from secateur.spec import Attribute, Pin, Plan, Structure
from secateur.spec.expr import Expr, axes_of, size_of
from secateur.structure import Traced
from secateur.structure.attributes import Key, held_integers
from secateur.structure.capture import Inputs
from secateur.structure.selectors import pinned
from secateur.surgery.shrink import shrink
from secateur.surgery.verify import verify_traced

Group = tuple[str, ...]
"""Axes that can only be cut together."""


def mend(model: nn.Module, plan: Plan, inputs: Inputs, traced: Traced) -> Structure:
    """The plan's structure without what makes the shrunk model disagree with the reference.

    An axis at fault gets the attributes that hold its size in the modules around it, where the two then agree; else it
    is pinned. The structure comes back as it was when no axis is at fault (random numbers in the forward, say).
    """
    trial = _Trial(model, plan, inputs, traced)
    if not trial.agrees(plan.structure, ()):
        return plan.structure
    structure = plan.structure
    for group in _at_fault(_groups(plan), lambda groups: trial.agrees(plan.structure, groups)):
        structure = _with_attributes(structure, group, trial) or _pinned(structure, group)
    return structure


@dataclass(frozen=True)
class _Trial:
    """Cuts some axes of a plan, and compares with the reference."""

    model: nn.Module
    plan: Plan
    inputs: Inputs
    traced: Traced

    def agrees(self, structure: Structure, groups: Sequence[Group]) -> bool:
        """Whether the model that is cut along these axes alone computes what the reference does."""
        axes = {axis for group in groups for axis in group}
        kept = {axis: indices for axis, indices in self.plan.kept.items() if axis in axes}
        plan = replace(self.plan, structure=structure, kept=kept)
        return verify_traced(self.model, shrink(self.model, plan), plan, self.inputs, self.traced).ok


def _groups(plan: Plan) -> list[Group]:
    together = (plan.structure.tied.get(axis, ((axis, 1),)) for axis in plan.kept)
    return list(dict.fromkeys(tuple(name for name, _ in members) for members in together))


def _at_fault(groups: list[Group], agrees: Callable[[Sequence[Group]], bool]) -> list[Group]:
    """Those of the groups that are at fault when all of them together disagree: single ones, or all where none is."""
    if len(groups) == 1:
        return groups
    half = len(groups) // 2
    found: list[Group] = []
    for part in (groups[:half], groups[half:]):
        if not agrees(part):
            found += _at_fault(part, agrees)
    return found or groups


def _with_attributes(structure: Structure, group: Group, trial: _Trial) -> Structure | None:
    """The structure with attributes that follow the axes; None when that does not help."""
    known = {(attribute.module, attribute.name, attribute.index) for attribute in structure.attributes}
    around = {module for module, _ in _dimensions(structure, group)}
    around |= {module.rpartition(".")[0] for module in around}
    by_size = {size_of(expr, structure.sizes): expr for _, expr in _dimensions(structure, group)}
    found = {
        key: by_size[value]
        for key, value in held_integers(trial.model)
        if key not in known and key[0] in around and value in by_size
    }
    for choice in _choices(found):
        more = tuple(Attribute(module, name, expr, index) for (module, name, index), expr in choice.items())
        mended = replace(structure, attributes=(*structure.attributes, *more))
        if trial.agrees(mended, [group]):
            names = ", ".join(f"{one.module}.{one.name}" for one in more)
            return replace(mended, notes=(*structure.notes, f"{names} follows {group[0]}: found by trial"))
    return None


def _choices(found: Mapping[Key, Expr]) -> Iterator[Mapping[Key, Expr]]:
    if found:
        yield found
    if len(found) > 1:
        yield from ({key: expr} for key, expr in found.items())


def _dimensions(structure: Structure, group: Group) -> Iterator[tuple[str, Expr]]:
    """(module, dimension) wherever one of the axes occurs in a tensor."""
    for name, spec in structure.tensors.items():
        for expr in spec.dims:
            if set(axes_of(expr)) & set(group):
                yield name.rpartition(".")[0], expr


def _pinned(structure: Structure, group: Group) -> Structure:
    pin = Pin(
        "size-in-code",
        "the shrunk model disagrees with the reference when it is cut: code uses its size out of sight",
        next((module for module, _ in _dimensions(structure, group)), ""),
        "read the size from an attribute of the module or from a tensor's shape, and keep it an int",
    )
    note = f"{', '.join(group)}: kept whole, because {pin.detail}"
    return pinned(replace(structure, notes=(*structure.notes, note)), group, pin)
