"""A network as one graph from tensors to tensors, which every format starts from."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import Node
from torch.utils._pytree import tree_flatten

from secateur.spec import ExportError, Port
from secateur.store.exporting.inputs import BATCH, LENGTH, Input, sizes_of
from secateur.structure import clone_with
from secateur.structure.capture import Inputs, call_model, unfused_attention
from secateur.structure.modes import eval_mode

LEAST = {BATCH: 1, LENGTH: 2}
"""Smallest sizes that a graph takes; code often has a case of its own for a text of one token."""


class Flat(nn.Module):
    """The network as a function from the tensors among its inputs to those among its outputs, on the CPU, with weights
    that are the network's where it is there, too."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model = clone_with(model, lambda tensor: tensor.detach().cpu())
        leaves, self._form = tree_flatten(inputs)
        self._fixed = [None if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves]
        self.eval()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.by_name(*tensors).values())

    def by_name(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The outputs with names."""
        rest = iter(tensors)
        leaves = [next(rest) if fixed is None else fixed[0] for fixed in self._fixed]
        return dict(_tensors_by_name(call_model(self.model, self._form.unflatten(leaves))))


def _tensors_by_name(output: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in containers and in the attributes of other objects, named by the way that leads there."""
    if isinstance(output, Tensor):
        yield name or "output", output
        return
    items: Mapping[Any, Any] = {}
    if isinstance(output, Mapping):
        items = output
    elif isinstance(output, list | tuple):
        items = dict(zip(getattr(output, "_fields", range(len(output))), output, strict=True))
    elif hasattr(output, "__dict__"):
        items = vars(output)
    for key, value in items.items():
        step = f"output_{key}" if isinstance(key, int) and not name else str(key)
        yield from _tensors_by_name(value, f"{name}_{step}" if name else step)


@dataclass(frozen=True)
class Graph:
    """What torch.export made of the network."""

    program: ExportedProgram
    inputs: tuple[Input, ...]
    """Sizes that the graph leaves free are free in them."""
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Sizes that are fixed, and why."""

    @property
    def input_names(self) -> list[str]:
        return [one.name for one in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """Apart from the names of inputs, because formats have one set of names."""
        return [f"{name}_out" if name in self.input_names else name for name in self.outputs]

    def ports(self) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        """Inputs and outputs as a record keeps them."""
        nodes = {node.name: node for node in self.program.graph.nodes}
        signature = self.program.graph_signature
        reads = [_value(nodes[name]) for name in signature.user_inputs]
        gives = [_value(nodes[name]) for name in signature.user_outputs]
        names = {
            str(value.shape[place]): name
            for one, value in zip(self.inputs, reads, strict=True)
            for place, name in one.moving.items()
        }
        return (
            tuple(_port(name, value, names) for name, value in zip(self.input_names, reads, strict=True)),
            tuple(_port(name, value, names) for name, value in zip(self.output_names, gives, strict=True)),
        )


def _value(node: Node) -> Tensor:
    return node.meta["val"]


def _port(name: str, value: Tensor, names: Mapping[str, str]) -> Port:
    shape = tuple(size if isinstance(size, int) else _named(str(size), names) for size in value.shape)
    return Port(name, str(value.dtype).removeprefix("torch."), shape)


def _named(size: str, names: Mapping[str, str]) -> str:
    """A size such as `2*s0` with the names that its symbols have."""
    return re.sub(r"[a-z]+\d+", lambda found: names.get(found[0], found[0]), size)


def graph_of(flat: Flat, inputs: Sequence[Input], free: Sequence[str]) -> Graph:
    """The network as a graph that leaves these sizes free, as far as the network's code does.

    Raises ExportError where torch.export cannot follow the code.
    """
    name = type(flat.model).__qualname__
    try:
        with torch.no_grad():
            outputs = tuple(flat.by_name(*(one.example.cpu() for one in inputs)))
    except Exception as error:  # of the user's code
        raise ExportError(f"{name}: its own forward fails on the example inputs: {reason(error)}") from error
    notes: list[str] = []
    held = [size for size in free if size in sizes_of(inputs)]
    for count in range(len(held), -1, -1):
        kept = [one.only(held[:count]) for one in inputs]
        try:
            program = _program(flat, kept)
        except Exception as error:  # the user's code may raise anything at sizes that it was not written for
            if not count:
                raise ExportError(
                    f"{name}: torch.export cannot follow the forward: {reason(error)}; keep values of tensors out of "
                    "`if` and sizes there, or export the part of the network that has none"
                ) from error
            notes.append(f"the {held[count - 1]} is fixed: {_why_fixed(error)}")
        else:
            return Graph(program, tuple(kept), outputs, tuple(notes))
    raise AssertionError("the loop ends with a graph or an error")


def _program(flat: Flat, inputs: Sequence[Input]) -> ExportedProgram:
    """Free sizes are 2 or more in the example: torch.export fixes those that are 1."""
    generator = torch.Generator().manual_seed(0)
    sizes = {name: max(2, size) for name, size in sizes_of(inputs).items()}
    examples = tuple(one.fresh(sizes, generator) for one in inputs)
    shapes = tuple({place: Dim.DYNAMIC(min=LEAST[name]) for place, name in one.moving.items()} for one in inputs)
    with torch.no_grad(), eval_mode(flat), unfused_attention():
        program = torch.export.export(flat, examples, dynamic_shapes=(shapes,), strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, which are no business of those who get the file
    return program


def _why_fixed(error: Exception) -> str:
    constant = "Constraints violated" in str(error)
    return "the network's code holds it as a constant" if constant else reason(error)


def reason(error: BaseException) -> str:
    """The first line of the innermost error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and log lines of exporters, which speak to those who develop them."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
