"""A structure as text that a person reviews: a line an axis, a line the tensors of a module that stand along the same
axes, a line the numbers of a module that follow sizes.

A star is what is cut by default; `sum` marks the dimension over which a weight's product with activations sums, `->`
the BatchNorm that its output goes into. `a x b` is a product of axes, `a + b` a concatenation. Tensors of no dimension
are left out. `.x` stands for an axis `x` of the module itself, `..x` for one of the module around it. Costs are given
in full, and with half of every free axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from secateur.cost import CostModel
from secateur.spec import Axis, Structure, TensorSpec
from secateur.spec.expr import Concat, Expr, Product


def listed(structure: Structure) -> str:
    """The text, with a newline at its end."""
    sections = {
        "axes": [_axis(axis) for axis in structure.axes],
        "tensors": list(_tensors(structure)),
        "attributes": list(_attributes(structure)),
        "ties": [" : ".join(f"{name} = {multiple}" for name, multiple in tie.members) for tie in structure.ties],
        "rescales": [f"{r.tensor}{r.rows or ''} by ({_dim(r.size)}) ** {r.power:g}" for r in structure.rescales],
        "blocks": [f"{block.module} along dimension {block.dim}" for block in structure.blocks],
        "lists that follow blocks": [f"{row.module}.{row.name} as {row.list}" for row in structure.rows],
        "costs": list(_costs(structure)),
        "notes": list(structure.notes),
    }
    lines = [structure.model]
    for title, entries in sections.items():
        lines += [title, *(f"  {entry}" for entry in entries)] if entries else []
    return "\n".join(lines) + "\n"


def _axis(axis: Axis) -> str:
    words = [axis.name, str(axis.size), f"{axis.role}{'*' if axis.chosen else ''}"]
    words += [f"within {axis.within}"] if axis.within else []
    words += [f"least {axis.least}"] if axis.least != 1 else []
    words += [f"whole: {axis.pin.code}"] if axis.pin else []
    return " ".join(words)


def _tensors(structure: Structure) -> Iterator[str]:
    """Neighbours in a module that stand along the same axes share a line."""
    lines = (
        (*_split(name), _along(structure, name, tensor)) for name, tensor in structure.tensors.items() if tensor.dims
    )
    for (module, along), group in groupby(lines, key=lambda line: (line[0], line[2])):
        yield f"{module}{', '.join(name for _, name, _ in group)}: {along}"


def _split(name: str) -> tuple[str, str]:
    module, dot, own = name.rpartition(".")
    return f"{module}{dot}", own


def _along(structure: Structure, name: str, tensor: TensorSpec) -> str:
    summed = structure.reads.get(name)
    module = name.rpartition(".")[0]
    dims = [f"{'sum ' * (number == summed)}{_dim(expr, module)}" for number, expr in enumerate(tensor.dims)]
    norms = "".join(f" -> {norm.norm}" for norm in structure.norms if norm.weight == name)
    kind = "" if tensor.kind == "parameter" else f" ({tensor.kind})"
    return f"[{', '.join(dims)}]{kind}{norms}"


def _dim(expr: Expr, module: str = "") -> str:
    """The dimension as seen from a module."""
    if isinstance(expr, Product):
        inside = ((part, _dim(part, module)) for part in expr.parts)
        return " x ".join(f"({text})" if isinstance(part, Concat) else text for part, text in inside)
    if isinstance(expr, Concat):
        runs = [(text, len(list(same))) for text, same in groupby(_dim(part, module) for part in expr.parts)]
        return " + ".join(text if count == 1 else f"{count} times {text}" for text, count in runs)
    return _near(expr, module) if isinstance(expr, str) else str(expr)


def _near(axis: str, module: str) -> str:
    around = module.rpartition(".")[0]
    if module and axis.startswith(f"{module}."):
        return axis[len(module) :]
    return f".{axis[len(around) :]}" if around and axis.startswith(f"{around}.") else axis


def _attributes(structure: Structure) -> Iterator[str]:
    found = sorted(structure.attributes, key=lambda a: (a.module, a.name, a.index or 0))
    for module, group in groupby(found, key=lambda attribute: attribute.module):
        numbers = [f"{a.name}{'' if a.index is None else f'[{a.index}]'} = {_dim(a.size, module)}" for a in group]
        yield f"{module or '(model)'}: {'; '.join(numbers)}"


def _costs(structure: Structure) -> Iterator[str]:
    half = {axis.name: max(axis.least, axis.size // 2) for axis in structure.prunable}
    for cost in sorted(structure.costs):
        model = CostModel(structure, cost)
        yield f"{cost} {model.at({}):,} -> {model.at(half):,}"
