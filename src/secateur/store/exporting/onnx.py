"""ONNX, run again by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.spec import StoreError, import_extra
from secateur.store.exporting.exporter import EXPORTERS, Run, Written
from secateur.store.exporting.graph import Graph
from secateur.store.exporting.inputs import BATCH, LENGTH

EXTRA = "export"


class Onnx:
    """Weights lie in the file, beyond 2 GB in one beside it."""

    suffix = ".onnx"
    free = (BATCH, LENGTH)
    modules = ("onnx", "onnxscript", "onnxruntime")
    extra = EXTRA

    def write(self, graph: Graph, file: Path, *, opset: int) -> Written:
        made: Any = torch.onnx.export(
            graph.program,
            dynamo=True,
            input_names=graph.input_names,
            output_names=graph.output_names,
            dynamic_shapes=tuple(dict(one.moving) for one in graph.inputs),
            opset_version=opset,
            verbose=False,
        )
        made.save(file, external_data=False)  # beyond 2 GB weights lie beside the file all the same
        got = made.model.opset_imports[""]
        notes = () if got == opset else (f"the opset is {got}: the network cannot be said in {opset}",)
        return Written(lambda: opened(file), {"opset": got}, notes)


def opened(file: str | Path, *, arena: bool = True) -> Run:
    """What runs the file on the CPU, with as many threads as torch has.

    arena: whether memory is kept from run to run. Raises StoreError where ONNX Runtime refuses the file.
    """
    runtime = import_extra("onnxruntime", EXTRA)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    try:
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of errors for each of its codes
        raise StoreError(f"{file}: ONNX Runtime cannot open it: {error}; export it again") from error
    names = [one.name for one in session.get_inputs()]
    return lambda tensors: _run(session, names, tensors)


def _run(session: Any, names: Sequence[str], tensors: Sequence[Tensor]) -> list[Tensor]:
    feeds = {name: tensor.detach().cpu().numpy() for name, tensor in zip(names, tensors, strict=True)}
    return [torch.from_numpy(output) for output in session.run(None, feeds)]


EXPORTERS.register("onnx", "ONNX, for ONNX Runtime, TensorRT, OpenVINO and others; free batch and length")(Onnx())
