"""Where a network can be taken apart: between places where a single tensor carries all that weights have made.

What lies between two such places, a residual block or a single layer with what follows it, can be fitted by itself:
it reads one tensor and makes one. Masks, positions and whatever else no weight has a part in may pass by.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from secateur.structure.program import Program, last_reads
from secateur.structure.weights import weights_read

MOST_LAYERS = 8
"""A part with more layers than these is left to be fitted layer by layer."""

Product = tuple[int, str]
"""Number of an operator that multiplies with a weight, and its name."""


@dataclass(frozen=True)
class Segment:
    """Operators from `start` up to `stop`, which make the tensor `made` of what was there before."""

    start: int
    stop: int
    made: int
    products: tuple[Product, ...]

    @property
    def weights(self) -> list[str]:
        return [name for _, name in self.products]


def find_segments(program: Program, parameters: Collection[str], weights: Collection[str]) -> list[Segment]:
    """Parts in order: each residual block by itself, and of layers in a row each one with the next, so that it learns
    what the next one needs; a last layer that follows a block by itself.

    parameters: names of all parameters of the model. weights: those of the layers that can be fitted.
    """
    parts = list(_parts(program, parameters, weights))
    found: list[Segment] = []
    place = 0
    while place < len(parts):
        last = place
        if len(parts[place].products) == 1:
            last = next((later for later in range(place + 1, len(parts)) if parts[later].products), place)
        whole = Segment(
            parts[place].start,
            parts[last].stop,
            parts[last].made,
            tuple(product for part in parts[place : last + 1] for product in part.products),
        )
        if 1 <= len(whole.products) <= MOST_LAYERS:
            found.append(_followed(whole, parts[last + 1 :], program))
        place = last if last > place and len(parts[last].products) == 1 else last + 1
    return found


def windows(segments: Sequence[Segment]) -> Iterator[tuple[Segment, ...]]:
    """At each part what to fit, the best first: the part together with the one after it, so that it need not make up
    for what that can make up for, or the part by itself."""
    for part, later in zip_longest(segments, segments[1:]):
        products = part.products if later is None else tuple(dict.fromkeys(part.products + later.products))
        whole = part if later is None else Segment(part.start, later.stop, later.made, products)
        yield (part,) if later is None or len(whole.products) > MOST_LAYERS else (whole, part)


def _followed(segment: Segment, later: list[Segment], program: Program) -> Segment:
    """With what comes after it up to the next layer, as long as that keeps all numbers apart."""
    for part in later:
        if part.products or program.shapes[part.made] != program.shapes[segment.made]:
            break
        segment = Segment(segment.start, part.stop, part.made, segment.products)
    return segment


def _parts(program: Program, parameters: Collection[str], weights: Collection[str]) -> Iterator[Segment]:
    """The smallest parts."""
    products = [(place, name) for place, name in weights_read(program) if name in weights]
    for (start, _), (stop, made) in pairwise([(0, -1), *_narrow(program, parameters, weights)]):
        yield Segment(start, stop, made, tuple(product for product in products if start <= product[0] < stop))


def _narrow(program: Program, parameters: Collection[str], weights: Collection[str]) -> Iterator[tuple[int, int]]:
    """(number of the next operator, the tensor that alone carries on what parameters have made of the inputs), where no
    weight is on its way to a layer further on."""
    last = last_reads(program)
    fed = set(program.inputs)
    touched = {number for number, name in program.named.items() if name in parameters}
    of_weights = {number for number, name in program.named.items() if name in weights}
    carrying: set[int] = set()
    waiting: set[int] = set()
    for place, op in enumerate(program.ops):
        reads_inputs = not fed.isdisjoint(op.reads)
        if reads_inputs:
            fed.update(op.outputs)
        if not touched.isdisjoint(op.reads):
            touched.update(op.outputs)
            if reads_inputs:
                carrying.update(op.outputs)
        if not reads_inputs and not of_weights.isdisjoint(op.reads):
            of_weights.update(op.outputs)
            waiting.update(op.outputs)
        carrying = {number for number in carrying if last.get(number, -1) > place}
        waiting = {number for number in waiting if last.get(number, -1) > place}
        if len(carrying) == 1 and not waiting:
            yield place + 1, next(iter(carrying))
