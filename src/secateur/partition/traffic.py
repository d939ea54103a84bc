"""What must cross between devices: exactly those entries of a tensor that some weight of another device reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import Tensor

from secateur.partition.steps import Arrangement, Step

Needs = Mapping[int, np.ndarray]
"""Of each tensor that is not at hand where it is read, by number, `(devices, positions)`: whether a device needs what
it does not own. A whole tensor has one position."""


def find_needs(arrangement: Arrangement, weights: Mapping[int, Tensor]) -> Needs:
    """weights: the tensors that products multiply with, by number."""
    needs: dict[int, np.ndarray] = {}
    for step in arrangement.steps:
        for tensor, part in step.reads.items():
            if part == "own":
                continue
            owners = arrangement.places[tensor].owners
            for device in step.runners:
                wanted = np.ones(len(owners), dtype=bool)
                if part == "columns":
                    wanted = _columns_read(arrangement, step, weights, device)
                needs.setdefault(tensor, np.zeros((arrangement.owners.devices, len(owners)), dtype=bool))[device] |= (
                    wanted & (owners != device)
                )
    home = arrangement.owners.home
    for tensor in arrangement.program.outputs:
        if tensor in arrangement.places:
            owners = arrangement.places[tensor].owners
            needs.setdefault(tensor, np.zeros((arrangement.owners.devices, len(owners)), dtype=bool))[home] |= (
                owners != home
            )
    return {tensor: needed for tensor, needed in needs.items() if needed.any()}


def _columns_read(arrangement: Arrangement, step: Step, weights: Mapping[int, Tensor], device: int) -> np.ndarray:
    """Columns of the weight in which some row of the device is not zero."""
    product = step.product
    assert product is not None
    rows = own_rows(arrangement, step, device)
    columns = (weights[product.weight] != 0).movedim(product.columns, 0).movedim(1, -1)[..., rows]
    found = columns.flatten(1).any(1).cpu().numpy()
    return found if arrangement.places[product.activation].dim is not None else np.array([bool(found.any())])


def own_rows(arrangement: Arrangement, step: Step, device: int) -> np.ndarray:
    """Rows of a product's weight, along the dimension that is not reduced over, that make the device's outputs."""
    product = step.product
    assert product is not None
    made = arrangement.places[arrangement.program.ops[step.number].outputs[0]]
    if made.dim is None:
        return np.arange(arrangement.program.shapes[product.weight][1 - product.columns])
    return made.own(device)


@dataclass(frozen=True)
class Traffic:
    """Bytes of one run of the network, from row to column."""

    bytes: np.ndarray
    """`(devices, devices)`."""

    @property
    def total(self) -> int:
        return int(self.bytes.sum())


def find_traffic(arrangement: Arrangement, needs: Needs) -> Traffic:
    """Bytes that cross each link in one run, of as many samples as the network was captured with."""
    devices = arrangement.owners.devices
    made = np.zeros((devices, devices), dtype=np.int64)
    for tensor, needed in needs.items():
        each, owners = entry_bytes(arrangement, tensor), arrangement.places[tensor].owners
        for device in range(devices):
            np.add.at(made[:, device], owners[needed[device]], each)
    return Traffic(made)


def entry_bytes(arrangement: Arrangement, tensor: int) -> int:
    """Bytes of one position of a tensor, of all samples."""
    program, place = arrangement.program, arrangement.places[tensor]
    count = prod(program.shapes[tensor]) * program.dtypes[tensor].itemsize
    return count if place.dim is None else count // program.shapes[tensor][place.dim]
