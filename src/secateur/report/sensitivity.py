"""What each layer loses when it alone is pruned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.report.charts import Scale, Series, chart
from secateur.report.html import Html, clipped, element, joined, name
from secateur.report.numbers import NOTHING, number, percent
from secateur.report.parts import Section, facts, figure, hidden, table
from secateur.report.reading import object_of, read_bytes, read_json
from secateur.report.run import Finding
from secateur.spec import StoreError
from secateur.spec.saved import RECIPE

RESULT, LEVELS = "sensitivity.json", "levels.json"
NAMED, DRAWN = 6, 120
"""Curves that stand out, and all that are drawn: the others in the background."""

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Sensitivity:
    """A folder of `secateur sensitivity`."""

    path: Path
    curves: Mapping[str, Curve]
    """(Share that goes, accuracy lost), the most sensitive first."""
    shares: Mapping[str, float | None]
    """What may go."""
    about: Mapping[str, Any]
    recipe: str

    @classmethod
    def read(cls, path: Path) -> Sensitivity | None:
        """None where the folder holds none; raises StoreError where it is damaged."""
        if not (path / RESULT).is_file():
            return None
        found = read_json(path / RESULT)
        curves = {name: _curve(points, path / RESULT) for name, points in object_of(found, "curves").items()}
        if not any(curves.values()):
            raise StoreError(f"{path / RESULT} holds no curves; run secateur sensitivity again")
        shares = {name: number(share) for name, share in object_of(found, "shares").items()}
        about = object_of(read_json(path / LEVELS), "about") if (path / LEVELS).is_file() else {}
        recipe = read_bytes(path / RECIPE).decode(errors="replace") if (path / RECIPE).is_file() else ""
        return cls(path, {name: curve for name, curve in curves.items() if curve}, shares, about, recipe)

    def title(self) -> str:
        return "Sensitivity"

    def done(self) -> Html:
        kind = self.about.get("granularity")
        told = joined([" (", name(kind, 40), ")"]) if kind else ""
        return joined([f"Each of {len(self.curves)} layers pruned alone", told, ", by ", self._ratios(), "."])

    def _ratios(self) -> str:
        ratios = sorted({ratio for curve in self.curves.values() for ratio, _ in curve})
        return f"{100 * ratios[0]:.3g} to {100 * ratios[-1]:.3g} percent"

    def metrics(self) -> Mapping[str, float]:
        return {}

    def findings(self) -> list[Finding]:
        worst, least = next(iter(self.curves)), list(self.curves)[-1]
        found = [Finding(clipped(worst, 30), f"is most sensitive: {_end(self.curves[worst])}")]
        return (
            [*found, Finding(clipped(least, 30), f"is least: {_end(self.curves[least])}")] if least != worst else found
        )

    def verified(self) -> bool | None:
        return None

    def sections(self) -> Iterator[Section]:
        yield Section("Sensitivity", self._picture())
        yield Section("Where it comes from", self._provenance())

    def _picture(self) -> Html:
        loud = list(self.curves)[:NAMED]
        series = [
            Series(name, [(0.0, 0.0), *((x, 100 * y) for x, y in curve)], quiet=name not in loud)
            for name, curve in list(self.curves.items())[:DRAWN]
        ]
        across = Scale(0.0, 1.0, lambda share: f"{100 * share:.0f} %")
        up = Scale.over([y for one in series for _, y in one.points], lambda lost: f"{lost:g}", floor=1)
        others = len(series) - len(loud)
        says = ("The most sensitive first: ", *_between([name(layer, 40) for layer in loud]), ".")
        aside = f" {others} less sensitive ones of {len(self.curves)} are drawn thin." if others else ""
        picture = chart(
            series,
            across,
            up,
            title="Accuracy lost by the share that goes",
            says=f"{len(self.curves)} curves; most sensitive: {', '.join(layer[:60] for layer in loud)}",
            axes=("share of the layer that goes", "points of accuracy lost"),
        )
        return figure(picture, joined([*says, aside]), self._numbers())

    def _numbers(self) -> Html:
        ratios = sorted({ratio for curve in self.curves.values() for ratio, _ in curve})
        if len(ratios) > 12:  # axes have whole indices, so that each has ratios of its own
            rows = ([name(layer, 60), _points(curve), self._may_go(layer)] for layer, curve in self.curves.items())
            return table("Points of accuracy lost", ("Layer", "At", "May go"), rows)
        head = ("Layer", *(f"{100 * ratio:.3g} %" for ratio in ratios), "May go")
        rows = (
            [name(layer, 60), *(_at(curve, ratio) for ratio in ratios), self._may_go(layer)]
            for layer, curve in self.curves.items()
        )
        return table("Points of accuracy lost", head, rows)

    def _may_go(self, layer: str) -> str:
        share = self.shares.get(layer)
        return NOTHING if share is None else f"{100 * share:.0f} %"

    def _provenance(self) -> Html:
        about = {key.capitalize(): name(value, 200) for key, value in self.about.items() if value is not None}
        command = f"secateur sensitivity{' --recipe recipe.yaml' if self.recipe else ''}"
        told = facts({"Folder": str(self.path), "Command": element("code", command), **about})
        return joined([told, hidden(self.recipe, "Recipe") if self.recipe else ""])


def _curve(points: Any, where: Path) -> Curve:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise StoreError(f"{where}: a curve is a list of pairs; run secateur sensitivity again")
    pairs = ((number(x), number(y)) for x, y in points)
    return sorted((x, y) for x, y in pairs if x is not None and y is not None and 0 <= x <= 1)


def _end(curve: Curve) -> str:
    share, lost = curve[-1]
    return f"{100 * lost:.3g} points lost when {100 * share:.3g} % of it goes".replace("-", "−")


def _at(curve: Curve, ratio: float) -> str:
    return next((f"{100 * lost:.2f}" for x, lost in curve if x == ratio), NOTHING)


def _points(curve: Curve) -> str:
    return "; ".join(f"{percent(x)}: {100 * lost:.2f}" for x, lost in curve[:20])


def _between(parts: Sequence[Html]) -> Sequence[object]:
    return [piece for part in parts for piece in (part, ", ")][:-1]
