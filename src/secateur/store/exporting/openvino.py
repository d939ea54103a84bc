"""OpenVINO's own format, run again by OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.spec import import_extra
from secateur.store.exporting.exporter import EXPORTERS, Run, Written
from secateur.store.exporting.graph import Graph
from secateur.store.exporting.inputs import BATCH, LENGTH

EXTRA = "openvino"


class OpenVino:
    """Two files: the network in XML, and its weights beside it in one that ends in .bin."""

    suffix = ".xml"
    free = (BATCH, LENGTH)
    modules = ("openvino",)
    extra = EXTRA

    def write(self, graph: Graph, file: Path, *, opset: int) -> Written:  # noqa: ARG002
        openvino = import_extra("openvino", EXTRA)
        made = openvino.convert_model(graph.program)
        for port, one in zip(made.inputs, graph.inputs, strict=True):
            sizes = [-1 if place in one.moving else size for place, size in enumerate(one.example.shape)]
            port.get_node().set_partial_shape(openvino.PartialShape(sizes))  # the conversion leaves more open
            port.get_tensor().set_names({one.name})
        for port, name in zip(made.outputs, graph.output_names, strict=True):
            port.get_tensor().set_names({name})
        made.validate_nodes_and_infer_types()
        openvino.save_model(made, file, compress_to_fp16=False)
        return Written(lambda: opened(file))


def opened(file: Path) -> Run:
    """What runs the file in single precision, with as many threads as torch has."""
    openvino = import_extra("openvino", EXTRA)
    how = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(file), "CPU", how)
    return lambda tensors: _run(compiled, tensors)


def _run(compiled: Any, tensors: Sequence[Tensor]) -> list[Tensor]:
    found = compiled([tensor.numpy() for tensor in tensors])
    return [torch.from_numpy(found[port].copy()) for port in compiled.outputs]


EXPORTERS.register("openvino", "OpenVINO's .xml with a .bin beside it; free batch and length")(OpenVino())
