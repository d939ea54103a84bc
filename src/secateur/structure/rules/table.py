"""The table of operator rules.

A rule is a function of the tracker and one recorded operator. It unifies, splits and merges the dimensions of the
operator's inputs, says which dimensions it reduces over (`tracker.reduce`), and returns the dimensions of its output,
or a list of them for several outputs. Its row in the table is its decorator: `@rule("aten::mean", "aten::sum")`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from secateur.spec import RegistryError
from secateur.structure.algebra import Node
from secateur.structure.program import Op

if TYPE_CHECKING:
    from secateur.structure.tracker import Tracker

Dims = Sequence[Node]
Rule = Callable[["Tracker", Op], Dims | list[Dims]]

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Add a row to the table for each operator name (`namespace::name`, every overload)."""

    def add(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise RegistryError(f"operator {name!r} has a rule already")
            RULES[name] = function
        return function

    return add


def find_rule(target: torch._ops.OpOverload) -> Rule | None:
    """The operator's rule; in-place variants share that of the plain one, pointwise ones are told by their tag."""
    name = target._schema.name
    found = RULES.get(name)
    if found is None and name.endswith("_"):
        found = RULES.get(name[:-1])
    if found is None and torch.Tag.pointwise in target.tags:
        found = RULES["pointwise"]
    return found
