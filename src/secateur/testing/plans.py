"""Random plans: any number of indices of any prunable axes, whatever a criterion or an allocator would choose."""

from __future__ import annotations

from random import Random

from secateur.spec import Plan, Structure
from secateur.spec.plan import Indices


def random_plan(
    structure: Structure,
    seed: int,
    *,
    only_chosen: bool = False,
    share: float = 0.8,
    least: int = 1,
    blocks: bool = True,
) -> Plan:
    """A plan that cuts about `share` of the axes to random counts, and removes half as many of the blocks; tied axes
    keep their ratio.

    only_chosen: leave the axes alone that are not pruned by default. least: indices that every axis keeps.
    blocks: whether some leave.
    """
    rng = Random(f"plan {seed}")
    kept: dict[str, Indices] = {}
    for axis in structure.axes:
        members = structure.tied.get(axis.name, ((axis.name, 1),))
        if members[0][0] != axis.name or rng.random() > share:
            continue
        own = [structure.axis[name] for name, _ in members]
        if any(member.pin is not None or (only_chosen and not member.chosen) for member in own):
            continue
        if axis.role == "blocks" and not blocks:
            continue
        most = own[0].size // members[0][1]
        count = rng.randint(0 if axis.role == "blocks" else min(least, most), most)
        if count * members[0][1] == own[0].size:
            continue
        for member, (name, multiple) in zip(own, members, strict=True):
            kept[name] = _indices(rng, structure, member.size, count * multiple, member.within)
    return Plan(structure, kept, {"made_by": "random_plan", "seed": seed})


def _indices(rng: Random, structure: Structure, size: int, count: int, within: str | None) -> Indices:
    if within is None:
        return tuple(sorted(rng.sample(range(size), count)))
    return tuple(tuple(sorted(rng.sample(range(size), count))) for _ in range(structure.sizes[within]))
