"""Lists in a model's Python with an entry per block, such as `config.layer_types`: known by when they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from secateur.spec import Row
from secateur.structure.attributes import Holder
from secateur.structure.program import BlockCall, ListReads, Program, Read


class _WatchedList(list[Any]):
    """A list that notes what is read of it."""

    def __init__(self, values: Sequence[Any], ops: Sequence[Any]) -> None:
        super().__init__(values)
        self.ops = ops
        self.reads: list[Read] = []

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int):
            self.reads.append(Read(key % len(self), len(self.ops), in_order=False))
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[Any]:
        for index, value in enumerate(super().__iter__()):
            self.reads.append(Read(index, len(self.ops), in_order=True))
            yield value

    def __deepcopy__(self, memo: Any) -> list[Any]:
        return [*super().__iter__()]


def watch_lists(copy: nn.Module, holders: Iterable[Holder], ops: Sequence[Any]) -> Iterator[ListReads]:
    """Let the lists in the attributes of the copy's holders note from now on what is read of them; those alone that are
    as long as some `Sequential` or `ModuleList`.

    ops: the operators that have run so far.
    """
    counts = {len(module) for module in copy.modules() if isinstance(module, nn.Sequential | nn.ModuleList)}
    for path, prefix, holder in holders:
        held = vars(holder)
        for name, value in list(held.items()):
            if type(value) is list and len(value) > 1 and len(value) in counts:
                held[name] = watched = _WatchedList(value, ops)
                yield ListReads(path, f"{prefix}{name}", len(value), watched.reads)


def find_rows(model: nn.Module, program: Program) -> Iterator[tuple[Row, bool]]:
    """The lists with an entry per child of a `Sequential` or `ModuleList`, and whether none of their entries was picked
    for anything else."""
    calls = {call.path: call for call in program.blocks}
    for path, container in model.named_modules():
        if not isinstance(container, nn.Sequential | nn.ModuleList):
            continue
        children = [f"{path}.{name}" if path else name for name, _ in container.named_children()]
        own = [calls[child] for child in children if child in calls]
        for found in program.lists:
            if len(own) == len(children) == found.length and _is_row(found.reads, own):
                yield Row(found.module, found.name, path), _is_row_alone(found.reads, own)


def _is_row(reads: Sequence[Read], calls: Sequence[BlockCall]) -> bool:
    """Whether each entry was read for the block of its number."""
    return len({read.index for read in reads if _is_for_its_block(read, calls)}) == len(calls)


def _is_row_alone(reads: Sequence[Read], calls: Sequence[BlockCall]) -> bool:
    return all(read.in_order or _is_for_its_block(read, calls) for read in reads)


def _is_for_its_block(read: Read, calls: Sequence[BlockCall]) -> bool:
    """Whether it was read after the block before had run, and before the end of its own."""
    start = calls[read.index - 1].stop if read.index else 0
    return start <= read.position <= calls[read.index].stop
