"""Axes tied so that whatever an allocator chooses can be said in the configuration again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

from torch import nn

from secateur.hugging_face.describing import config_of, is_transformers_model
from secateur.hugging_face.directions import Mover, directions
from secateur.hugging_face.moves import Moves, measure_moves
from secateur.hugging_face.numbers import shown
from secateur.hugging_face.saying import can_say
from secateur.spec import Pin, Structure, Tie
from secateur.structure.collector import collector_paused
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

    @property
    def is_free(self) -> bool:
        """Whether every axis goes as far, and as finely, as without the ties."""
        return not self.kept_whole and not self.coarse


def tie_to_config(model: nn.Module, structure: Structure) -> Tied | None:
    """Tie the axes that have one number of the model's configuration between them, and pin those that have none.

    None for a network that is none of transformers, or that its configuration does not describe. Nothing is known
    beforehand of what the numbers mean: the class is built, without memory, with each of them changed.
    """
    if not is_transformers_model(model):
        return None
    config = config_of(model)
    with collector_paused():
        spelled_out = _tied_in(model, config, structure, spelled_out=True)
        if spelled_out is not None and (spelled_out.is_free or spelled_out.moves.config == config):
            return spelled_out
        plain = _tied_in(model, config, structure, spelled_out=False)
    found = [tied for tied in (spelled_out, plain) if tied is not None]
    return min(found, key=lambda tied: (len(tied.kept_whole), tied.coarse), default=None)


def _tied_in(model: nn.Module, config: Mapping[str, Any], structure: Structure, *, spelled_out: bool) -> Tied | None:
    moves = measure_moves(type(model), config, structure, spelled_out=spelled_out)
    return None if moves is None else _tied(structure, moves)


def _tied(structure: Structure, moves: Moves) -> Tied:
    found = [_tie(movers, structure, moves) for movers in _same_direction(structure, moves)]
    single = [tie for tie in found if tie is not None]
    steps = [1] * len(single)
    if not _follow(single, 1, structure, moves):
        steps = [_step(tie, structure, moves) for tie in single]
    made = [
        replace(tie, members=tuple((axis, multiple * step) for axis, multiple in tie.members))
        for tie, step in zip(single, steps, strict=True)
        if step
    ]
    coarse = any(step > 1 for step in steps)
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
    fitting = (step for step in STEPS if _levels(tie, structure) % step == 0)
    return next((step for step in fitting if _follow([tie], step, structure, moves)), 0)


def _follow(ties: Sequence[Tie], step: int, structure: Structure, moves: Moves) -> bool:
    """Whether the class follows when all of these go down by one such step, and by three where there are as many."""
    tried: list[dict[str, int]] = []
    for times in (1, 3):
        lower = [(tie, _levels(tie, structure) - times * step) for tie in ties]
        sizes = {axis: multiple * level for tie, level in lower if level > 0 for axis, multiple in tie.members}
        tried += [sizes] if sizes else []
    return bool(tried) and all(can_say(structure, {**structure.sizes, **sizes}, moves) for sizes in tried)


def _levels(tie: Tie, structure: Structure) -> int:
    axis, multiple = tie.members[0]
    return structure.sizes[axis] // multiple


def _all_chosen(tie: Tie, structure: Structure) -> bool:
    return all(structure.axis[axis].chosen for axis, _ in tie.members)
