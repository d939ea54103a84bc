"""ExecuTorch programs for phones and boards, run again by ExecuTorch's runtime on this machine."""

from __future__ import annotations

from pathlib import Path

from secateur.spec import import_extra
from secateur.store.exporting.exporter import EXPORTERS, Run, Written
from secateur.store.exporting.graph import Graph

EXTRA = "executorch"


class ExecuTorch:
    """Operators that XNNPACK has go to it, the others to ExecuTorch's portable ones. Memory is planned as the file is
    written, so that all sizes are fixed."""

    suffix = ".pte"
    free = ()
    modules = ("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch.runtime")
    extra = EXTRA

    def write(self, graph: Graph, file: Path, *, opset: int) -> Written:  # noqa: ARG002
        exir = import_extra("executorch.exir", EXTRA)
        xnnpack = import_extra("executorch.backends.xnnpack.partition.xnnpack_partitioner", EXTRA)
        lowered = exir.to_edge_transform_and_lower(graph.program, partitioner=[xnnpack.XnnpackPartitioner()])
        file.write_bytes(lowered.to_executorch().buffer)
        return Written(lambda: opened(file), {"backend": "xnnpack"})


def opened(file: Path) -> Run:
    """What runs the file."""
    runtime = import_extra("executorch.runtime", EXTRA)
    forward = runtime.Runtime.get().load_program(file).load_method("forward")
    return lambda tensors: [output.clone() for output in forward.execute(list(tensors))]


EXPORTERS.register("executorch", "ExecuTorch's .pte for phones and boards, by XNNPACK; all sizes fixed")(ExecuTorch())
