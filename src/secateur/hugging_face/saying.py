"""The configuration that says given sizes, and why there is none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from secateur.hugging_face.building import build_without_memory
from secateur.hugging_face.directions import sized
from secateur.hugging_face.moves import Moves
from secateur.hugging_face.numbers import Path, number_at, shown, with_numbers
from secateur.spec import Structure
from secateur.spec.expr import Sizes, size_of
from secateur.spec.structure import shape_of
from secateur.structure import named_tensors

Demand = tuple[Mapping[Path, float], float, str]
"""Powers of the numbers in a size, what it becomes over what it was, and where it stands."""


def config_for(structure: Structure, sizes: Sizes, moves: Moves) -> dict[str, Any]:
    """The configuration with the numbers nearest to those at which every size of the network is right."""
    paths = list(moves.numbers)
    demands = list(_demands(structure, sizes, moves))
    if not demands:
        return dict(moves.config)
    powers = np.array([[found.get(path, 0.0) for path in paths] for found, _, _ in demands])
    steps = np.linalg.lstsq(powers, np.log([ratio for _, ratio, _ in demands]), rcond=None)[0]
    return with_numbers(
        moves.config,
        {path: round(moves.numbers[path] * float(np.exp(step))) for path, step in zip(paths, steps, strict=True)},
    )


def misfit(config: Mapping[str, Any], structure: Structure, sizes: Sizes, moves: Moves) -> str | None:
    """Why the network of this configuration has other tensors than one cut to the sizes; None where it has the same."""
    model = build_without_memory(moves.model_class, config)
    shapes = {} if model is None else {found.name: tuple(found.tensor.shape) for found in named_tensors(model)}
    expected = {name: shape_of(spec, sizes) for name, spec in structure.tensors.items()}
    if shapes == expected:
        return None
    conflict = _conflict(structure, sizes, moves)
    if conflict is not None:
        return conflict
    if model is None:
        numbers = ", ".join(f"{shown(path)}={number_at(config, path)}" for path in moves.numbers)
        return f"{moves.model_class.__name__} refuses a configuration with {numbers}"
    name = next(name for name in expected if shapes.get(name) != expected[name])
    return f"{name} has shape {expected[name]}, a network built from the nearest configuration has {shapes.get(name)}"


def can_say(structure: Structure, sizes: Sizes, moves: Moves) -> bool:
    """Whether some configuration gives a network with these sizes."""
    return misfit(config_for(structure, sizes, moves), structure, sizes, moves) is None


def _demands(structure: Structure, sizes: Sizes, moves: Moves) -> Iterator[Demand]:
    """What every size that is a product of numbers asks of them."""
    exprs = dict(sized(structure))
    for key in moves.sizes:
        powers = {path: found[key] for path, found in moves.powers.items() if key in found}
        if powers and all((2 * power).is_integer() for power in powers.values()):
            ratio = size_of(exprs.get(key, 1), sizes) / size_of(exprs.get(key, 1), structure.sizes)
            yield powers, ratio, ".".join(step for step in key[1:] if isinstance(step, str) and step)


def _conflict(structure: Structure, sizes: Sizes, moves: Moves) -> str | None:
    """One number of the configuration of which two sizes ask different values."""
    asked: defaultdict[Path, dict[int, str]] = defaultdict(dict)
    for powers, ratio, where in _demands(structure, sizes, moves):
        if len(powers) == 1:
            ((path, power),) = powers.items()
            asked[path].setdefault(round(moves.numbers[path] * ratio ** (1 / power)), where)
    for path, values in asked.items():
        if len(values) > 1:
            (first, here), (second, there), *_ = values.items()
            return (
                f"its configuration has one {shown(path)}, which would be {first} for {here} and {second} for {there}"
            )
    return None
