"""A captured forward pass: the operators that ran, below the Python level, and the tensors they passed on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor of the program, by its number."""

    id: int


@dataclass(slots=True)
class Op:
    """One operator call. `args` and `kwargs` hold `Ref` where the call had tensors."""

    target: torch._ops.OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: list[int]
    module: str
    """Path of the innermost module whose forward was running."""
    call: Call | None
    """The torch function in the user's code that led here."""
    reads: tuple[int, ...] = field(init=False)
    """Numbers of the tensors among its arguments, in order."""

    def __post_init__(self) -> None:
        self.reads = tuple(refs([self.args, self.kwargs]))


@dataclass(slots=True)
class Call:
    """A call of a torch function as the user's code wrote it: its sizes still remember where they came from."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    module: str
    where: str
    result: Any = None
    """The result with `Ref` in place of tensors."""
    ops: list[Op] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BlockCall:
    """One run of a child of a `Sequential` or a `ModuleList`."""

    path: str
    given: int
    """The first tensor among its arguments."""
    made: int
    """The first tensor that it returned."""
    start: int
    """Its operators are those from `start` up to `stop`, by number."""
    stop: int
    caller: str
    """Path of the module whose forward called it."""


@dataclass(frozen=True, slots=True)
class Read:
    """That the code read entry `index` when `position` operators had run."""

    index: int
    position: int
    in_order: bool
    """Whether it was an iteration that came to it, else the code picked it."""


@dataclass(frozen=True, slots=True)
class ListReads:
    """What was read of a list in an attribute, `module.name`."""

    module: str
    name: str
    length: int
    reads: Sequence[Read]


@dataclass(slots=True)
class Program:
    """Everything that one forward did."""

    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    blocks: list[BlockCall] = field(default_factory=list)
    lists: list[ListReads] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    """Shape of each tensor, by number."""
    dtypes: list[torch.dtype] = field(default_factory=list)
    named: dict[int, str] = field(default_factory=dict)
    """Tensor number -> name of the parameter, buffer or attribute."""
    inputs: list[int] = field(default_factory=list)
    """Tensors among the example inputs, in the order of the flattened inputs."""
    constants: dict[int, torch.Tensor] = field(default_factory=dict)
    """Tensors that appeared without having been made by a recorded operator."""
    outputs: list[int] = field(default_factory=list)
    equalities: list[tuple[Any, Any, str]] = field(default_factory=list)
    """Sizes that the code compared and found equal: (origin, origin, where)."""
    differences: list[tuple[Any, Any]] = field(default_factory=list)
    """Sizes that the code compared and found different."""
    number_uses: list[tuple[Any, str]] = field(default_factory=list)
    """Sizes that the code turned into other numbers: (origin, where)."""
    device: torch.device = field(default_factory=lambda: torch.device("meta"))
    """Where the capture ran; `meta` unless the model looks at values."""


def last_reads(program: Program) -> dict[int, int]:
    """Tensor number -> number of the last operator that reads it; of the program's outputs, one past all operators."""
    last = dict.fromkeys(program.outputs, len(program.ops))
    for place, op in enumerate(program.ops):
        for number in op.reads:
            last[number] = max(place, last.get(number, 0))
    return last


def out_of_place(target: torch._ops.OpOverload) -> Any:
    """The operator that makes a new tensor of what this one writes into an old one."""
    name = target._schema.name.removeprefix("aten::")
    if not target._schema.is_mutable or not name.endswith("_") or name.endswith("__"):
        return target
    return getattr(getattr(torch.ops.aten, name[:-1]), target._overloadname)


_NO_TENSORS = (int, float, str, type(None), torch.dtype, torch.device)


def refs(value: Any) -> Iterator[int]:
    """Numbers of the tensors inside an argument."""
    if isinstance(value, Ref):
        yield value.id
    elif isinstance(value, list | tuple):
        for item in value:
            if not isinstance(item, _NO_TENSORS):
                yield from refs(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from refs(item)
