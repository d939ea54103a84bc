"""What is put side by side: networks, and ONNX files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from secateur.bench.engines import ENGINES, Started, of_file
from secateur.spec import ExportRecord, ModelError, Port, StoreError
from secateur.store.exporting import record_path
from secateur.store.exporting.inputs import BATCH, inputs_of, sizes_of, with_tensors
from secateur.structure.capture import Inputs

EXAMPLE_LENGTH = 16
"""Of a size that an ONNX file leaves free, other than the batch."""


class Entry(Protocol):
    """Something with a name that can be started."""

    @property
    def name(self) -> str: ...

    def start(self, engine: str, batch: int, folder: Path) -> Started | None:
        """Make it ready, at this batch; None where it does not run in this engine."""
        ...


@dataclass(frozen=True)
class Network:
    """A network in eval mode and example inputs of one forward, on its device."""

    name: str
    model: nn.Module
    inputs: Inputs

    def start(self, engine: str, batch: int, folder: Path) -> Started | None:
        """Raises ModelError where the inputs have no batch to be changed, and what the engine raises."""
        return ENGINES.get(engine)(self.model, self._at(batch), folder)

    def _at(self, batch: int) -> Inputs:
        found = inputs_of(self.model, self.inputs)
        sizes = sizes_of(found)
        if BATCH not in sizes:
            if batch == 1:
                return self.inputs
            raise ModelError(f"{self.name} reads inputs without a batch; leave --batch {batch} out")
        generator = torch.Generator().manual_seed(0)
        tensors = [one.fresh({**sizes, BATCH: batch}, generator).to(one.example.device) for one in found]
        return with_tensors(self.inputs, tensors)


@dataclass(frozen=True)
class OnnxFile:
    """A file that `secateur export` wrote, with its record beside it; runs in ONNX Runtime alone."""

    name: str
    path: Path

    def start(self, engine: str, batch: int, folder: Path) -> Started | None:  # noqa: ARG002
        """Raises StoreError where the record is missing, or the batch is fixed at another."""
        if engine != "onnxruntime":
            return None
        where = record_path(self.path)
        if not where.is_file():
            raise StoreError(
                f"{self.path}: {where.name}, which says what the file reads, is not beside it; export again"
            )
        record = ExportRecord.from_json(where.read_bytes())
        generator = torch.Generator().manual_seed(0)
        return of_file(self.path, tuple(self._tensor(port, batch, generator) for port in record.inputs))

    def _tensor(self, port: Port, batch: int, generator: torch.Generator) -> Tensor:
        if port.shape and isinstance(port.shape[0], int) and port.shape[0] != batch:
            raise StoreError(f"{self.path} has its batch fixed at {port.shape[0]}; give --batch {port.shape[0]}")
        sizes = {BATCH: batch}
        shape = [size if isinstance(size, int) else sizes.get(size, EXAMPLE_LENGTH) for size in port.shape]
        dtype = getattr(torch, port.dtype)
        if dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(dtype)
        return torch.ones(shape, dtype=dtype)  # tokens that every vocabulary has, and masks that leave nothing out
