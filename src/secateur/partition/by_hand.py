"""Who owns what, as a user says it: `layer1: 2`, or `layer1.0.conv1.out: [0, 0, 1, 1]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from secateur.partition.owners import Owners
from secateur.spec import PlanError, StoreError
from secateur.spec.errors import nearest
from secateur.spec.record import first_fault

Given = Mapping[str, int | Sequence[int]]
"""By axis, module or `re:` pattern the device of each channel, or of all."""


def given(owners: Given, known: Owners) -> dict[str, np.ndarray]:
    """Owners as a user names them; axes at home that cannot be spread are no matter.

    Raises PlanError for what is named wrong, or cannot be.
    """
    made: dict[str, np.ndarray] = {}
    for name, own in owners.items():
        axes = [axis for axis in known.sizes if _is_meant(axis, name)]
        if not axes:
            near = nearest(name, list(known.axes))
            raise PlanError(f"owners of {name!r}: no axis and no module has that name; did you mean: {near}?")
        spread = [axis for axis in axes if axis in known.axes]
        if not spread and not (np.asarray(own) == known.home).all():
            raise PlanError(f"axis {name!r} cannot be spread over devices; those that can: {', '.join(known.axes)}")
        for axis in spread:
            array = np.full(known.sizes[axis], own) if isinstance(own, int) else np.asarray(own, dtype=np.int64)
            if array.shape != (known.sizes[axis],):
                raise PlanError(
                    f"owners of {axis!r}: {array.size} of them; expected one for each of {known.sizes[axis]}"
                )
            if array.min() < 0 or array.max() >= known.devices:
                found = sorted(set(array.tolist()))
                raise PlanError(f"owners of {axis!r}: expected devices 0 to {known.devices - 1}, got {found}")
            made[axis] = array
    return made


def _is_meant(axis: str, name: str) -> bool:
    if name.startswith("re:"):
        try:
            return re.search(name.removeprefix("re:"), axis) is not None
        except re.error as error:
            raise PlanError(f"owners of {name!r} is no pattern: {error}") from error
    return axis == name or axis.startswith(f"{name}.")


def read_owners(path: str | Path) -> Given:
    """From a YAML or JSON file; raises StoreError for one that says something else."""
    try:
        found: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, int | list[int]]).validate_python(found)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StoreError(f"{path} cannot be read as owners of channels: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise StoreError(
            f"{path} does not say who owns what: {first_fault(error)}; expected `layer: 2` or `layer.out: [0, 1]`"
        ) from error
