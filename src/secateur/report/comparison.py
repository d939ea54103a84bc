"""Whole channels or single weights, retrained or not, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from secateur.report.charts import Scale
from secateur.report.html import Html, element, joined, name
from secateur.report.numbers import METRICS, NOTHING, number, percent
from secateur.report.parts import Section, facts, figure, table
from secateur.report.reading import object_of, read_json, rows_of
from secateur.report.run import Finding
from secateur.report.saved_model import SavedModel
from secateur.spec import StoreError

RESULT = "comparison.json"
SHOWN = ("macs", "params_left", "file_bytes", "packed_bytes", "latency_ms", "speedup")
PICTURED = ("channels", "single-weights")
"""Cells of the first seed whose networks are shown."""
MOST_CELLS = 60
LARGEST_SEED = 1 << 63
"""Of those that name a folder."""
ALL_CELLS = 4
"""Of the 2x2."""


@dataclass(frozen=True)
class Comparison:
    """A folder of `secateur compare`."""

    path: Path
    settings: Mapping[str, Any]
    cells: Mapping[str, Sequence[Mapping[str, Any]]]
    """Of each cell a row for each seed."""
    best: Mapping[str, Any]
    environment: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Comparison | None:
        """None where the folder holds none; raises StoreError where it is damaged, or where no cell is done."""
        if not (path / RESULT).is_file():
            return None
        found = read_json(path / RESULT)
        cells: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows_of(found, "rows", path / RESULT):
            if number(row.get("accuracy")) is not None:
                cells.setdefault(str(row.get("cell")), []).append(row)
        if not cells:
            raise StoreError(f"{path} holds a comparison that is not finished; run secateur compare again")
        best, environment = object_of(found, "best"), object_of(found, "environment")
        return cls(path, object_of(found, "settings"), cells, best, environment)

    def title(self) -> str:
        return "Comparison"

    def done(self) -> Html:
        seeds = len({row.get("seed") for rows in self.cells.values() for row in rows})
        model, data = self.settings.get("model", "a network"), self.settings.get("data", "its data")
        where = joined([name(model, 60), " on ", name(data, 60)])
        return joined(["Channels or single weights, retrained or not: ", where, f", {seeds} seeds."])

    def metrics(self) -> Mapping[str, float]:
        return {}

    def findings(self) -> list[Finding]:
        wins = [(measure, cells) for measure, cells in self.best.items() if isinstance(cells, list)]
        return [Finding(f"Best {_measure(measure)}", _winners(cells)) for measure, cells in wins[:5]]

    def verified(self) -> bool | None:
        return None

    def sections(self) -> Iterator[Section]:
        yield Section("Accuracy", self._accuracies())
        yield Section("Costs", self._costs())
        for cell in PICTURED:
            saved = SavedModel.read(self.path / f"seed-{self._first_seed()}" / cell)
            if saved is not None:
                for section in saved.pictures():
                    yield Section(f"{section.title}: {cell.replace('-', ' ')}", section.body)
        yield Section("Where it comes from", self._provenance())

    def _first_seed(self) -> int:
        seeds = [number(row.get("seed")) for rows in self.cells.values() for row in rows]
        return int(min((seed for seed in seeds if seed is not None and abs(seed) < LARGEST_SEED), default=0))

    def _accuracies(self) -> Html:
        values = {cell: [float(row["accuracy"]) for row in rows] for cell, rows in self.cells.items()}
        every = [value for found in values.values() for value in found]
        across = Scale.over(every, lambda share: f"{100 * share:g} %", floor=0.01)
        best = max(values, key=lambda cell: mean(values[cell]))
        rows = (
            [name(cell, 40), _with_spread(found), _dots(found, across)]
            for cell, found in list(values.items())[:MOST_CELLS]
        )
        picture = table("Accuracy of each cell", ("Network", "Accuracy", _ruler(across)), rows, kind="numbers bars")
        says = joined(
            [name(best, 40), f" is most accurate, {percent(mean(values[best]))}. A dot is a seed, the bar the mean."]
        )
        return figure(picture, says)

    def _costs(self) -> Html:
        titles = [METRICS[key].label for key in SHOWN]
        rows = ([name(cell, 40), *(_mean(key, own) for key in SHOWN)] for cell, own in self.cells.items())
        return table("Costs of each cell, means over the seeds", ("Network", *titles), rows)

    def _provenance(self) -> Html:
        asked = {key.replace("_", " ").capitalize(): name(value, 200) for key, value in self.settings.items()}
        versions = {f"Version of {key[:40]}": name(value) for key, value in self.environment.items()}
        return facts({"Folder": str(self.path), "Command": element("code", "secateur compare"), **asked, **versions})


def _measure(key: str) -> str:
    return METRICS[key].label.lower() if key in METRICS else key[:40]


def _winners(cells: Sequence[Any]) -> str:
    return "none, all are alike" if len(cells) >= ALL_CELLS else "; ".join(str(cell)[:40] for cell in cells)


def _with_spread(values: Sequence[float]) -> str:
    return f"{percent(mean(values))}{f' ± {100 * stdev(values):.2f}' if len(values) > 1 else ''}"


def _mean(key: str, rows: Sequence[Mapping[str, Any]]) -> str:
    values = [value for row in rows for value in [number(row.get(key))] if value is not None]
    return METRICS[key].shown(mean(values)) if values else NOTHING


def _ruler(across: Scale) -> Html:
    return element("span", across.shown(across.low), element("span", across.shown(across.high)), class_="ruler")


def _dots(values: Sequence[float], across: Scale) -> Html:
    def at(value: float) -> str:
        return f"{2 + 96 * across.at(value):.2f}%"

    middle = at(mean(values))
    return element(
        "svg",
        element("line", x1="2%", x2="98%", y1=8, y2=8, class_="grid"),
        *(element("circle", cx=at(value), cy=8, r=3.5, class_="dot") for value in values[:50]),
        element("line", x1=middle, x2=middle, y1=1, y2=15, class_="middle"),
        width="100%",
        height=16,
        aria_hidden="true",
    )
