"""What may cross between devices as groups of weights: all weights of one device that read one entry of another's.

Such a group, (tensor, entry, device that reads it), is the unit of communication-aware pruning: the entry need not be
sent exactly when all of its weights are zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from torch import Tensor

from secateur.partition.device import shard_bytes
from secateur.partition.steps import Arrangement, Step
from secateur.partition.traffic import Needs, entry_bytes, own_rows


@dataclass(frozen=True)
class Site:
    """A product with a weight that reads what others may own."""

    step: Step
    weight: str
    """Name of the parameter, or of the buffer in its place."""
    transposed: bool
    """Whether rows and columns of the parameter are those of the product the other way round."""

    def rows_first(self, weight: Tensor) -> Tensor:
        """The parameter, or a mask of it, with rows and columns as the first two dimensions."""
        assert self.step.product is not None
        columns = self.step.product.columns if not self.transposed else 1 - self.step.product.columns
        return weight if columns == 1 else weight.transpose(0, 1)


@dataclass(frozen=True)
class Crossings:
    """Every entry that could cross, one after the other."""

    arrangement: Arrangement
    sites: Sequence[Site]
    tensor: np.ndarray
    entry: np.ndarray
    sender: np.ndarray
    receiver: np.ndarray
    bytes: np.ndarray
    """Of one sample."""
    fixed: np.ndarray
    """Bytes of one sample that cross whatever the weights are, `(sender, receiver)`."""
    always: Needs
    """Of what crosses whatever the weights are who needs it."""
    held: np.ndarray
    """`(devices,)`: bytes of weights that a device holds whatever crosses."""

    def __len__(self) -> int:
        return len(self.tensor)

    @cached_property
    def weights(self) -> np.ndarray:
        """Bytes of the weights that read each entry, which the receiver holds if it crosses."""
        found = np.zeros(len(self), dtype=np.int64)
        for mine, site, rows, columns in self.readers():
            assert site.step.product is not None
            program, weight = self.arrangement.program, site.step.product.weight
            each = prod(program.shapes[weight][2:]) * program.dtypes[weight].itemsize
            found[mine] += len(rows) * columns.shape[1] * each
        return found

    def readers(self) -> Iterator[tuple[np.ndarray, Site, Tensor, Tensor]]:
        """(numbers of crossings, site, rows of the device `(R,)`, columns of each crossing `(K, C)`): for each site and
        device that reads something there."""
        for site in self.sites:
            product = site.step.product
            assert product is not None
            for device in site.step.runners:
                mine = np.flatnonzero((self.tensor == product.activation) & (self.receiver == device))
                if len(mine):
                    rows = torch.from_numpy(own_rows(self.arrangement, site.step, device))
                    columns = self.columns(site)[torch.from_numpy(self.entry[mine])]
                    yield mine, site, rows, columns

    def columns(self, site: Site) -> Tensor:
        """Of each entry of what a site reads the columns that read it; a whole tensor is one entry of them all."""
        product = site.step.product
        assert product is not None
        columns = torch.arange(self.arrangement.program.shapes[product.weight][product.columns])
        return columns[None] if self.arrangement.places[product.activation].dim is None else columns[:, None]

    def masks(self, kept: np.ndarray, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of each weight that loses something, of its shape, False at zeros. kept: whether each entry crosses."""
        made: dict[str, Tensor] = {}
        for mine, site, rows, columns in self.readers():
            gone = columns[torch.from_numpy(~kept[mine])].flatten()
            if len(gone):
                mask = made.setdefault(site.weight, torch.ones_like(weights[site.weight], dtype=torch.bool))
                site.rows_first(mask)[rows[:, None], gone] = False
        return made

    def norms(self, weights: Mapping[str, Tensor]) -> np.ndarray:
        """The square of the norm of each group."""
        found = np.zeros(len(self))
        for mine, site, rows, columns in self.readers():
            block = site.rows_first(weights[site.weight].detach())[rows][:, columns].double()
            found[mine] += block.square().reshape(*block.shape[:2], -1).sum((0, 2)).cpu().numpy()
        return found

    def total(self, kept: np.ndarray | None = None) -> int:
        """Bytes of one sample that cross, of all links; with everything kept where nothing is said."""
        return int(self.fixed.sum() + self.bytes[slice(None) if kept is None else kept].sum())

    def needs(self, kept: np.ndarray) -> Needs:
        """Who needs what when these cross."""
        found = {tensor: needed.copy() for tensor, needed in self.always.items()}
        devices = self.arrangement.owners.devices
        for tensor in np.unique(self.tensor[kept]).tolist():
            mine = kept & (self.tensor == tensor)
            entries = len(self.arrangement.places[tensor].owners)
            needed = found.setdefault(tensor, np.zeros((devices, entries), dtype=bool))
            needed[self.receiver[mine], self.entry[mine]] = True
        return found


def find_crossings(arrangement: Arrangement, parameters: Collection[str]) -> Crossings:
    """All entries that could cross, and what crosses in any case: tensors that are read by more than products with a
    parameter, and outputs."""
    sites = tuple(site for site in find_sites(arrangement) if site.weight in parameters)
    devices = arrangement.owners.devices
    free = _free_tensors(arrangement, {site.step.number for site in sites})
    found: dict[tuple[int, int, int], None] = {}
    needs: dict[int, np.ndarray] = {}
    fixed = np.zeros((devices, devices), dtype=np.int64)
    for tensor, receiver in _reading(arrangement):
        place = arrangement.places[tensor]
        each = entry_bytes(arrangement, tensor) // arrangement.samples
        others = np.flatnonzero(place.owners != receiver)
        if (tensor, receiver) in free:
            found.update(((tensor, int(entry), receiver), None) for entry in others)
        else:
            np.add.at(fixed[:, receiver], place.owners[others], each)
            needs.setdefault(tensor, np.zeros((devices, len(place.owners)), dtype=bool))[receiver, others] = True
    rows = np.array(list(found), dtype=np.int64).reshape(-1, 3)
    return Crossings(
        arrangement,
        sites,
        tensor=rows[:, 0],
        entry=rows[:, 1],
        sender=np.array([arrangement.places[tensor].owners[entry] for tensor, entry, _ in rows], dtype=np.int64),
        receiver=rows[:, 2],
        bytes=np.array([entry_bytes(arrangement, tensor) // arrangement.samples for tensor, _, _ in rows]),
        fixed=fixed,
        always=needs,
        held=shard_bytes(arrangement, needs),
    )


def _reading(arrangement: Arrangement) -> list[tuple[int, int]]:
    """(tensor, device that reads of it what it may not own), once each."""
    read = [
        (tensor, device)
        for step in arrangement.steps
        for tensor, part in step.reads.items()
        if part != "own"
        for device in step.runners
    ]
    outputs = [number for number in arrangement.program.outputs if number in arrangement.places]
    return list(dict.fromkeys([*read, *((number, arrangement.owners.home) for number in outputs)]))


def _free_tensors(arrangement: Arrangement, sites: set[int]) -> set[tuple[int, int]]:
    """(tensor, device) where all that reads across channels there are sites."""
    bound = {
        (tensor, device)
        for step in arrangement.steps
        for tensor, part in step.reads.items()
        if part == "all" or (part == "columns" and step.number not in sites)
        for device in step.runners
    }
    bound |= {(number, arrangement.owners.home) for number in arrangement.program.outputs}
    return {pair for pair in _reading(arrangement) if pair not in bound}


def find_sites(arrangement: Arrangement) -> Iterator[Site]:
    """All products with a weight that may read what others own."""
    program = arrangement.program
    maker = {number: op for op in program.ops for number in op.outputs}
    for step in arrangement.steps:
        if step.product is None:
            continue
        number = step.product.weight
        if number in program.named:
            yield Site(step, program.named[number], transposed=False)
        elif number in maker and maker[number].target is torch.ops.aten.t.default:
            source = maker[number].reads[0]
            if source in program.named:
                yield Site(step, program.named[source], transposed=True)
