"""`secateur list`: what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated

from typer import Argument

from secateur.cli.options import Common
from secateur.cli.outcome import Outcome

Lines = Iterable[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Options of `list`."""

    what: Annotated[
        str | None,
        Argument(metavar="WHAT", help="criteria, allocators, methods, models, data, budgets, exporters or engines."),
    ] = None


def _criteria() -> Lines:
    from secateur.recover import SECOND_ORDER
    from secateur.score import CRITERIA
    from secateur.sparse import UPDATING, WEIGHT_CRITERIA

    healed = (SECOND_ORDER, "what the network loses when the layers that read it make up for it (OBS for groups)")
    return _of_both([*CRITERIA.describe(), healed], [*WEIGHT_CRITERIA.describe(), *UPDATING.items()])


def _allocators() -> Lines:
    from secateur.allocate import ALLOCATORS
    from secateur.sparse import WEIGHT_ALLOCATORS

    return _of_both(ALLOCATORS.describe(), WEIGHT_ALLOCATORS.describe())


def _of_both(for_channels: Lines, for_weights: Lines) -> Lines:
    """What applies to whole channels and their like, and what to single weights, by name."""
    kinds = {"channels": dict(for_channels), "single weights": dict(for_weights)}
    for name in sorted({name for lines in kinds.values() for name in lines}):
        yield name, "; ".join(f"{kind}: {lines[name]}" for kind, lines in kinds.items() if name in lines)


def _methods() -> Lines:
    from secateur.cli.methods import known_methods

    return known_methods().describe()


def _models() -> Lines:
    from secateur.models import list_models

    return list_models()


def _data() -> Lines:
    from secateur.data import list_data

    return list_data()


def _budgets() -> Lines:
    from secateur.partition.budget import LINK_UNITS
    from secateur.spec import SPARSITY, UNITS

    for unit in UNITS.values():
        between = LINK_UNITS.get(unit.name)
        yield unit.name, unit.description if between is None else f"{unit.description}; of partition: {between}"
    yield SPARSITY, "share of the weights that is removed; with --granularity element and other single weights"
    yield from ((unit, f"of partition: {said}") for unit, said in LINK_UNITS.items() if unit not in UNITS)


def _exporters() -> Lines:
    from secateur.store.exporting import EXPORTERS

    return EXPORTERS.describe()


def _engines() -> Lines:
    from secateur.bench import ENGINES

    return ENGINES.describe()


LISTS: dict[str, Callable[[], Lines]] = {
    "criteria": _criteria,
    "allocators": _allocators,
    "methods": _methods,
    "models": _models,
    "data": _data,
    "budgets": _budgets,
    "exporters": _exporters,
    "engines": _engines,
}


def run(options: Options) -> Outcome:
    """Show what there is to choose from: criteria, allocators, methods, models, data, budgets, exporters, engines."""
    from secateur.spec import RegistryError

    if options.what not in LISTS:
        raise RegistryError(f"cannot list {options.what or 'nothing'}; name one of: {', '.join(LISTS)}")
    found = dict(LISTS[options.what]())
    width = max(len(name) for name in found)
    return Outcome(found, "\n".join(f"{name.ljust(width)}  {line}" for name, line in found.items()))
