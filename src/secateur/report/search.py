"""A search: the networks that it saw, those that no other beats, and the way that it went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.report.charts import Scale, Series, chart
from secateur.report.html import Html, element, joined, name
from secateur.report.numbers import METRICS, NOTHING, exact, number, percent
from secateur.report.parts import Section, facts, figure, hidden, table
from secateur.report.reading import object_of, read_bytes, read_lines
from secateur.report.run import Finding
from secateur.report.saved_model import SavedModel
from secateur.spec import StoreError
from secateur.spec.front import Event, cost_of_unit, front_of
from secateur.spec.saved import RECIPE

JOURNAL, RESULT = "search.jsonl", "result"
COMMAND = element("code", "secateur search --recipe recipe.yaml")
COSTS = ("macs", "param_count", "size_bytes")


@dataclass(frozen=True)
class Search:
    """A folder of `secateur search`, finished or not."""

    path: Path
    about: Event
    tried: Sequence[Event]
    """Candidates as they were judged last, with their costs."""
    chosen: Sequence[Event]
    """What each iteration chose."""
    cost: str
    """The metric that the first budget limits."""
    result: SavedModel | None
    recipe: str

    @classmethod
    def read(cls, path: Path) -> Search | None:
        """None where the folder holds none; raises StoreError where it is damaged."""
        if not (path / JOURNAL).is_file():
            return None
        events = list(read_lines(path / JOURNAL))
        if not events or events[0].get("event") != "begun":
            raise StoreError(f"{path / JOURNAL} is no journal of a search; name a folder of secateur search")
        cost = _cost(events)
        chosen = [event for event in events if event.get("event") == "chosen" and _has_numbers(event)]
        recipe = read_bytes(path / RECIPE).decode(errors="replace") if (path / RECIPE).is_file() else ""
        result = SavedModel.read(path / RESULT)
        return cls(path, object_of(events[0], "about"), _tried(events), chosen, cost, result, recipe)

    def title(self) -> str:
        return "Search" if self.result is None else f"Search for a smaller {self.result.network()}"

    def done(self) -> Html:
        budget = ", ".join(f"{unit}={value}" for unit, value in object_of(self.about, "budget").items())
        state = "" if self.result is not None else ", not finished yet"
        steps = f"{len(self.chosen)} iterations and {len(self.tried)} candidates"
        return joined(["Block by block to ", name(budget or "a budget", 80), f" in {steps}{state}."])

    def metrics(self) -> Mapping[str, float]:
        return {} if self.result is None else self.result.metrics()

    def findings(self) -> list[Finding]:
        return [] if self.result is None else self.result.findings()

    def verified(self) -> bool | None:
        return None if self.result is None else self.result.verified()

    def sections(self) -> Iterator[Section]:
        if self.result is not None:
            yield from self.result.costs()
        if self._telling(self.tried):
            yield Section("What there is to choose from", self._front())
        if self.chosen:
            yield Section("Step by step", self._steps())
        if self.result is not None:
            yield from self.result.pictures()
            yield from self.result.proved()
        yield Section("Where it comes from", self._provenance())

    def _front(self) -> Html:
        tried, cost = self._telling(self.tried), METRICS[self.cost]
        front = front_of(tried, self.cost)
        seen = Series("other candidates", self._points(tried), joined=False, quiet=True)
        best = Series("no other is better", self._points(front))
        way = Series("what the search chose", self._points(self._telling(self.chosen)))
        series = [seen, best, way] if way.points else [seen, best]
        every = [point for one in series for point in one.points]
        across = Scale.over([x for x, _ in every], cost.shown)
        up = Scale.over([y for _, y in every], lambda share: f"{100 * share:g} %", floor=0.01)
        label = cost.label.lower()
        says = (
            f"{len(front)} of {len(tried)} candidates are beaten by no other in both accuracy and "
            f"{label}, from {percent(front[0]['accuracy'])} at {cost.shown(front[0][self.cost])} down to "
            f"{percent(front[-1]['accuracy'])} at {cost.shown(front[-1][self.cost])}; accuracy is on images held out."
        )
        picture = chart(
            series,
            across,
            up,
            title=f"Accuracy by {label}",
            says=says,
            axes=(label, "accuracy on held-out images"),
        )
        rows = (
            [
                joined([exact(row.get("iteration")), ". ", name(_block(row), 40)]),
                percent(row["accuracy"]),
                *self._costs(row),
            ]
            for row in front
        )
        head = ("Iteration and block", "Accuracy", *self._labels())
        return figure(picture, says, table("Candidates that no other beats", head, rows))

    def _steps(self) -> Html:
        rows = (
            [
                joined([exact(row.get("iteration")), ". ", name(_block(row), 40)]),
                f"{exact(row.get('before'))} → {exact(row.get('after'))}",
                percent(row["accuracy"]),
                *self._costs(row),
            ]
            for row in self.chosen
        )
        return table("What each iteration chose", ("Block", "Width", "Accuracy", *self._labels()), rows)

    def _points(self, rows: Sequence[Event]) -> list[tuple[float, float]]:
        return [(float(row[self.cost]), float(row["accuracy"])) for row in rows]

    def _telling(self, rows: Sequence[Event]) -> list[Event]:
        """Without those of iterations before the cost was budgeted, which need not tell it."""
        return [row for row in rows if number(row.get(self.cost)) is not None]

    def _labels(self) -> list[str]:
        return [METRICS[key].label for key in self._told()]

    def _costs(self, row: Event) -> list[str]:
        found = {key: number(row.get(key)) for key in self._told()}
        return [NOTHING if value is None else METRICS[key].shown(value) for key, value in found.items()]

    def _told(self) -> list[str]:
        return list(dict.fromkeys((self.cost, *COSTS)))

    def _provenance(self) -> Html:
        asked = {
            key.replace("_", " ").capitalize(): name(value, 200)
            for key, value in self.about.items()
            if isinstance(value, str | int | float) and value != ""
        }
        told = facts({"Folder": str(self.path), "Command": COMMAND, **asked})
        files = "" if self.result is None else self.result.provenance()
        return joined([told, hidden(self.recipe, "Recipe of the search") if self.recipe else "", files])


def _cost(events: Sequence[Event]) -> str:
    for event in events:
        goals = event.get("goals")
        if event.get("event") == "goals" and isinstance(goals, list) and goals and isinstance(goals[0], dict):
            named = cost_of_unit(str(goals[0].get("unit")))
            return named if named in METRICS else COSTS[0]
    return COSTS[0]


def _tried(events: Sequence[Event]) -> list[Event]:
    costs: dict[tuple[Any, int], Event] = {}
    last: dict[tuple[Any, int], Event] = {}
    for event in events:
        if event.get("event") == "proposed":
            proposals = event.get("proposals")
            for place, one in enumerate(proposals if isinstance(proposals, list) else []):
                costs[str(event.get("iteration")), place] = one if isinstance(one, dict) else {}
        elif event.get("event") == "candidate":
            last[str(event.get("iteration")), int(number(event.get("place")) or 0)] = event
    joint = [{**costs.get(key, {}), **event} for key, event in last.items() if "error" not in event]
    return [row for row in joint if _has_numbers(row)]


def _has_numbers(row: Event) -> bool:
    return all(number(row.get(key)) is not None for key in ("accuracy", *COSTS))


def _block(row: Event) -> str:
    return str(row.get("block", ""))
