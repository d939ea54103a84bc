"""Axes tied so that whatever an allocator chooses can be said in the configuration again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

from torch import nn

from secateur.hugging_face.describing import config_of, is_transformers_model
from secateur.hugging_face.directions import Mover, directions
from secateur.hugging_face.moves import Moves, measure_moves
from secateur.hugging_face.numbers import shown
from secateur.hugging_face.saying import can_say
from secateur.spec import Pin, Structure, Tie
from secateur.structure.selectors import pinned

STEPS = (1, 2, 4, 8, 16, 32)
"""Single steps, or coarser ones where a class rounds its sizes."""


@dataclass(frozen=True)
class Tied:
    """A structure whose plans a configuration can say."""

    structure: Structure
    kept_whole: tuple[str, ...]
    """Axes that would be cut by default, but for which the configuration can say no other size."""
    moves: Moves
    coarse: bool = False
    """Whether some sizes move in coarser steps than they could."""


def tie_to_config(model: nn.Module, structure: Structure) -> Tied | None:
    """Tie the axes that have one number of the model's configuration between them, and pin those that have none.

    None for a network that is none of transformers, or that its configuration does not describe. Nothing is known
    beforehand of what the numbers mean: the class is built, without memory, with each of them changed.
    """
    if not is_transformers_model(model):
        return None
    found: list[Tied] = []
    for spelled_out in (True, False):
        moves = measure_moves(type(model), config_of(model), structure, spelled_out=spelled_out)
        if moves is not None:
            found.append(_tied(structure, moves))
            if not found[-1].kept_whole and not found[-1].coarse:
                break
    return min(found, key=lambda tied: (len(tied.kept_whole), tied.coarse), default=None)


def _tied(structure: Structure, moves: Moves) -> Tied:
    made: list[Tie] = []
    coarse = False
    for movers in _same_direction(structure, moves):
        single = _tie(movers, structure, moves)
        step = 0 if single is None else _step(single, structure, moves)
        if single is not None and step:
            made.append(replace(single, members=tuple((axis, multiple * step) for axis, multiple in single.members)))
        coarse = coarse or step > 1
    movable = {axis for tie in made for axis, _ in tie.members}
    others = [tie for tie in structure.ties if not any(axis in movable for axis, _ in tie.members)]
    stuck = {axis for tie in structure.ties for axis, _ in tie.members if not _all_chosen(tie, structure)}
    kept_whole = tuple(axis.name for axis in structure.axes if axis.chosen and axis.name not in movable | stuck)
    pin = Pin("config", "the configuration has no number for it alone", cure="let it go its own way with tie='none'")
    return Tied(pinned(replace(structure, ties=(*others, *made)), kept_whole, pin), kept_whole, moves, coarse)


def _same_direction(structure: Structure, moves: Moves) -> list[list[Mover]]:
    classes: defaultdict[tuple[float, ...], list[Mover]] = defaultdict(list)
    for mover, direction in directions(structure, moves).items():
        classes[direction].append(mover)
    return list(classes.values())


def _tie(movers: Sequence[Mover], structure: Structure, moves: Moves) -> Tie | None:
    """The axes among the movers, in the finest steps in which all movers stay whole numbers."""
    aligned = {axis: multiple for tie in structure.ties for axis, multiple in tie.members}
    axes = [mover for mover in movers if isinstance(mover, str)]
    numbers = [mover for mover in movers if not isinstance(mover, str)]
    levels = gcd(
        *(structure.sizes[axis] // aligned.get(axis, 1) for axis in axes), *(moves.numbers[path] for path in numbers)
    )
    if not axes or levels == 1:
        return None
    members = tuple((axis, structure.sizes[axis] // levels) for axis in axes)
    return Tie(members, f"the configuration has one number for them: {', '.join(map(shown, numbers))}")


def _step(tie: Tie, structure: Structure, moves: Moves) -> int:
    """The finest step of the tie at which the class follows; 0 where it follows at none."""
    axis, multiple = tie.members[0]
    levels = structure.sizes[axis] // multiple
    for step in STEPS:
        tried = [levels - times * step for times in (1, 3) if levels > times * step]
        if levels % step == 0 and tried and all(_follows(tie, level, structure, moves) for level in tried):
            return step
    return 0


def _follows(tie: Tie, level: int, structure: Structure, moves: Moves) -> bool:
    sizes = {**structure.sizes, **{axis: multiple * level for axis, multiple in tie.members}}
    return can_say(structure, sizes, moves)


def _all_chosen(tie: Tie, structure: Structure) -> bool:
    return all(structure.axis[axis].chosen for axis, _ in tie.members)
