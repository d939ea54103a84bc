"""torch.export's own file, for PyTorch without the network's code, and for AOTInductor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from secateur.store.exporting.exporter import EXPORTERS, Run, Written
from secateur.store.exporting.graph import Graph
from secateur.store.exporting.inputs import BATCH, LENGTH


class TorchExport:
    """The graph as it is."""

    suffix = ".pt2"
    free = (BATCH, LENGTH)
    modules = ()
    extra = ""

    def write(self, graph: Graph, file: Path, *, opset: int) -> Written:  # noqa: ARG002
        torch.export.save(graph.program, file)
        return Written(lambda: opened(file))


def opened(file: Path) -> Run:
    """What runs the file."""
    network = torch.export.load(file).module()

    def run(tensors: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return list(network(*tensors))

    return run


EXPORTERS.register("torch-export", "a .pt2 file that torch.export.load reads; free batch and length")(TorchExport())
