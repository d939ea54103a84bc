"""What an exporter is: it writes a graph to a file, and says how the file is run again.

One is called once per file. Packages add formats of their own through the entry points `secateur.exporters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from secateur.spec import Registry
from secateur.store.exporting.graph import Graph

Run = Callable[[Sequence[Tensor]], list[Tensor]]
"""From input tensors, in the order of the graph's, to output tensors."""


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    open: Callable[[], Run]
    """Reads the file and returns what runs it."""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What only this format has, for the record."""
    notes: tuple[str, ...] = ()


class Exporter(Protocol):
    """A format."""

    @property
    def suffix(self) -> str:
        """Of its files, with the dot."""
        ...

    @property
    def free(self) -> tuple[str, ...]:
        """Sizes that the format may leave to the caller: `batch`, `length`."""
        ...

    @property
    def modules(self) -> tuple[str, ...]:
        """What is imported to write and to run it, beside torch."""
        ...

    @property
    def extra(self) -> str:
        """The extra of Secateur that brings them; empty where there are none."""
        ...

    def write(self, graph: Graph, file: Path, *, opset: int) -> Written:
        """Write the graph to the file, and beside it what belongs to it under names that begin with the file's stem.

        opset: of ONNX; other formats have none. Warnings and log lines are not shown. Whatever it raises, but for
        errors of Secateur, is taken for a network that the format cannot say.
        """
        ...


EXPORTERS: Registry[Exporter] = Registry("exporters")
