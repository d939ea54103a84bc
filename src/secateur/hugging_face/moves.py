"""How each number of a configuration moves each size of the network: measured, not looked up.

The class is built once per number, with that number alone multiplied by a small factor, and the sizes before and after
are compared. In logarithms sizes that are products of numbers become linear: a size moves by `power` times the move of
a number. What a configuration can say at all is then the null space of one matrix (`Moves.free`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, log
from typing import Any

from secateur.hugging_face.building import Key, Sizes, build_without_memory, sizes_of
from secateur.hugging_face.numbers import Path, Values, number_at, numbers_of, unset_in, with_numbers
from secateur.spec import Structure

FACTORS = (2, 3, 5, 7)
"""What a number is multiplied by: the next one where the class refuses the product, or divides it with a remainder."""
PROBE = 210
"""Put where a configuration holds nothing; divisible by much."""


@dataclass(frozen=True)
class Moves:
    """What the numbers of a configuration do to a network."""

    model_class: type[Any]
    config: Mapping[str, Any]
    """The configuration, with numbers in place of nothing where that says the same."""
    numbers: Values
    """Those that move sizes of the network and leave its tensors the same ones."""
    sizes: Sizes
    powers: Mapping[Path, Mapping[Key, float]]
    """Number -> size -> its power in that size; sizes that it does not move are left out."""


def measure_moves(
    model_class: type[Any], config: Mapping[str, Any], structure: Structure, *, spelled_out: bool
) -> Moves | None:
    """Build the class with each number of the configuration changed; None where the configuration does not describe the
    network of this structure.

    spelled_out: put numbers where the configuration holds nothing and the class computes one (`head_dim` from the
    width of the network, say); this frees sizes from each other.
    """
    sizes = _built_sizes(model_class, config, structure)
    if sizes is None or any(
        sizes.get(("tensor", name, dim)) != size
        for name, spec in structure.tensors.items()
        for dim, size in enumerate(spec.shape)
    ):
        return None
    if spelled_out:
        config = _spelled_out(model_class, config, structure, sizes)
    numbers: dict[Path, int] = {}
    powers: dict[Path, Mapping[Key, float]] = {}
    for path, value in numbers_of(config).items():
        moved = _powers(model_class, config, structure, sizes, path, value)
        if moved:
            numbers[path], powers[path] = value, moved
    return Moves(model_class, config, numbers, sizes, powers)


def _built_sizes(model_class: type[Any], config: Mapping[str, Any], structure: Structure) -> Sizes | None:
    model = build_without_memory(model_class, config)
    return None if model is None else sizes_of(model, structure)


def _spelled_out(
    model_class: type[Any], config: Mapping[str, Any], structure: Structure, sizes: Sizes
) -> Mapping[str, Any]:
    """The configuration with the number that nothing stands for, where a number there would decide a size."""
    for path in unset_in(config):
        probed = _built_sizes(model_class, with_numbers(config, {path: PROBE}), structure)
        value = None if probed is None else _stood_for(sizes, probed)
        if value is None:
            continue
        explicit = with_numbers(config, {path: value})
        kept = number_at(model_class.config_class.from_dict(explicit).to_dict(), path) == value  # no other name for one
        if kept and _built_sizes(model_class, explicit, structure) == sizes:
            config = explicit
    return config


def _stood_for(sizes: Sizes, probed: Sizes) -> int | None:
    """The value at which sizes that are multiples of the number are what they were."""
    values = {
        size * PROBE / probed[key]
        for key, size in sizes.items()
        if key[0] == "tensor" and probed[key] and probed[key] != size
    }
    value = values.pop() if len(values) == 1 else 0.0
    return int(value) if value > 0 and value.is_integer() else None


def _powers(
    model_class: type[Any], config: Mapping[str, Any], structure: Structure, sizes: Sizes, path: Path, value: int
) -> Mapping[Key, float]:
    """The power of one number in every size that it moves; for sums, the relative change over that of the number.

    Nothing for a number that makes other tensors at two factors: it counts layers. (At one factor it may have met
    another number by chance.)
    """
    powers: dict[Key, float] = {}
    slopes: dict[Key, float] = {}
    strange = 0
    for factor in FACTORS:
        model = build_without_memory(model_class, with_numbers(config, {path: factor * value}))
        changed = None if model is None else sizes_of(model, structure)
        strange += model is not None and changed is None
        if strange == 2:
            return {}
        if changed is None:
            continue
        for key in sizes.keys() - powers.keys():
            ratio = changed[key] / sizes[key] if sizes[key] else 1.0
            power = _power(ratio, factor)
            if power is None:
                slopes.setdefault(key, (ratio - 1) / (factor - 1) if isfinite(ratio) else 1.0)
            elif power:
                powers[key] = power
        if slopes.keys() <= powers.keys():
            break
    return {**slopes, **powers}


def _power(ratio: float, factor: int) -> float | None:
    """The whole or half power of the factor that the ratio is."""
    if not 0 < ratio < inf:
        return None
    halves = 2 * log(ratio) / log(factor)
    return round(halves) / 2 if abs(halves - round(halves)) < 1e-9 else None
