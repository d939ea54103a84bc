"""What runs a network: PyTorch as it is, compiled, or ONNX Runtime.

An engine is a function that makes a network ready; it is called once for each. Packages add some through the entry
points `secateur.engines`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from secateur.spec import ModelError, Registry
from secateur.store.exporting import ExportOptions, export
from secateur.store.exporting.graph import quiet, reason
from secateur.store.exporting.onnx import opened
from secateur.structure import named_tensors
from secateur.structure.capture import Inputs, call_model, tensors_in

Forward = Callable[[], object]
"""One forward on the same inputs."""

ROOM = 64
"""Compiled versions that torch keeps of one piece of code: networks side by side often share theirs."""


@dataclass(frozen=True)
class Started:
    """A network in an engine."""

    forward: Forward
    size_bytes: int
    """Of the weights."""
    unpooled: Callable[[], Forward] | None = None
    """Makes a forward whose memory is given back after each run, where `forward` keeps it for the next."""
    notes: tuple[str, ...] = ()


Engine = Callable[[nn.Module, Inputs, Path], Started]
"""From a network in eval mode, its inputs and an empty folder."""

ENGINES: Registry[Engine] = Registry("engines")


@ENGINES.register("eager", "PyTorch as it is")
def eager(model: nn.Module, inputs: Inputs, folder: Path) -> Started:  # noqa: ARG001
    return Started(lambda: call_model(model, inputs), _bytes_of(model))


@ENGINES.register("compile", "torch.compile, for the shapes of these inputs")
def compiled(model: nn.Module, inputs: Inputs, folder: Path) -> Started:  # noqa: ARG001
    """Compiles. Raises ModelError where torch.compile fails: without a C++ compiler, for example."""
    torch._dynamo.config.recompile_limit = max(ROOM, torch._dynamo.config.recompile_limit)
    with quiet():
        made = torch.compile(model, dynamic=False)

    def forward() -> object:
        return made(**inputs) if isinstance(inputs, dict) else made(*inputs)

    try:
        with quiet():
            forward()
    except Exception as error:  # of the compiler, of Python's or of the system's
        raise ModelError(
            f"{type(model).__qualname__} cannot be compiled: {reason(error)}; leave `compile` out of --engines"
        ) from error
    return Started(forward, _bytes_of(model))


@ENGINES.register("onnxruntime", "ONNX Runtime on the CPU, after an export with these shapes")
def onnxruntime(model: nn.Module, inputs: Inputs, folder: Path) -> Started:
    """Raises ExportError where ONNX cannot say the network, MissingExtraError without the extra `export`."""
    file = folder / "model.onnx"
    record = export(model, inputs, file, options=ExportOptions(fixed=True))
    proof = record.verification
    differs = f"in onnxruntime it differs from the network by {proof.relative_diff:.1e} of the output's scale"
    return of_file(file, inputs, notes=() if proof.ok else (differs,))


def of_file(file: Path, inputs: Inputs, *, notes: tuple[str, ...] = ()) -> Started:
    """An ONNX file in ONNX Runtime."""
    tensors = list(tensors_in(inputs))
    run = opened(file)

    def unpooled() -> Forward:
        other = opened(file, arena=False)
        return lambda: other(tensors)

    return Started(lambda: run(tensors), file.stat().st_size, unpooled, notes)


def _bytes_of(model: nn.Module) -> int:
    return sum(found.tensor.nbytes for found in named_tensors(model))
