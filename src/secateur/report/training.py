"""Training logs, and the curves of any training that a run remembers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.report.charts import Scale, Series, chart
from secateur.report.html import Html, joined
from secateur.report.numbers import exact, number, percent, plain
from secateur.report.parts import Section, facts, figure, table
from secateur.report.reading import read_lines
from secateur.report.run import Finding
from secateur.spec import StoreError

SHOWN = ("epoch", "loss", "validation_loss", "accuracy", "validation_accuracy", "learning_rate", "seconds")
TITLES = ("Epoch", "Loss", "Validation loss", "Accuracy", "Validation accuracy", "Learning rate", "Seconds")
NAMES = {
    "loss": "training",
    "validation_loss": "validation",
    "accuracy": "training",
    "agreement": "agreement with the teacher",
    "validation_accuracy": "validation",
}

Epochs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TrainingLog:
    """What `--log FILE.jsonl` wrote."""

    path: Path
    epochs: Epochs

    @classmethod
    def read(cls, path: Path) -> TrainingLog | None:
        """None where the path is no file; raises StoreError for a file that is no log."""
        if not path.is_file():
            return None
        epochs = list(read_lines(path))
        if not epochs or any("epoch" not in epoch for epoch in epochs):
            raise StoreError(
                f"{path} is no training log: expected an object with `epoch` a line; name a run of Secateur"
            )
        return cls(path, epochs)

    def title(self) -> str:
        return "Training"

    def done(self) -> Html:
        seconds = sum(number(epoch.get("seconds")) or 0.0 for epoch in self.epochs)
        return joined([f"{len(self.epochs)} epochs in {plain(seconds)} seconds."])

    def metrics(self) -> Mapping[str, float]:
        last = self.epochs[-1]
        found = {key: number(last.get(f"validation_{key}", last.get(key))) for key in ("accuracy", "loss")}
        return {key: value for key, value in found.items() if value is not None}

    def findings(self) -> list[Finding]:
        accuracy = self.metrics().get("accuracy")
        held_out = "validation_accuracy" in self.epochs[-1]
        where = "held-out images" if held_out else "training images"
        return [] if accuracy is None else [Finding(percent(accuracy), f"accuracy on {where}, in the end")]

    def verified(self) -> bool | None:
        return None

    def sections(self) -> Iterator[Section]:
        yield Section("Training", curves(self.epochs))
        yield Section("Where it comes from", facts({"Log": str(self.path)}))


def curves(epochs: Epochs) -> Html:
    """Loss and accuracy by epoch."""
    told = [epoch for epoch in epochs if number(epoch.get("epoch")) is not None]
    drawn = [
        _picture(told, ("loss", "validation_loss"), "Loss", plain),
        _picture(
            told, ("accuracy", "agreement", "validation_accuracy"), "Accuracy", lambda share: f"{100 * share:g} %"
        ),
    ]
    rows = ([_cell(key, epoch.get(key)) for key in SHOWN] for epoch in told)
    numbers = table("Training by epoch", TITLES, rows)
    return figure(joined(drawn), _message(told), numbers, summary="Epochs")


def _cell(key: str, value: Any) -> str:
    found = number(value)
    return percent(found) if found is not None and key.endswith("accuracy") else exact(value)


def _picture(epochs: Epochs, keys: Sequence[str], title: str, shown: Any) -> Html:
    series = [Series(NAMES[key], points) for key in keys for points in [_points(epochs, key)] if points]
    if not series:
        return Html("")
    across = Scale.over([x for one in series for x, _ in one.points], lambda epoch: f"{epoch:g}", whole=True)
    up = Scale.over([y for one in series for _, y in one.points], shown, floor=0.01)
    says = "; ".join(f"{one.name} from {shown_at(one, 0, shown)} to {shown_at(one, -1, shown)}" for one in series)
    return chart(series, across, up, title=f"{title} by epoch", says=says, axes=("epoch", title))


def shown_at(one: Series, place: int, shown: Any) -> str:
    return shown(round(one.points[place][1], 4))


def _points(epochs: Epochs, key: str) -> list[tuple[float, float]]:
    pairs = ((number(epoch["epoch"]), number(epoch.get(key))) for epoch in epochs)
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _message(epochs: Epochs) -> str:
    key = next((key for key in ("validation_accuracy", "accuracy", "agreement") if _points(epochs, key)), None)
    if key is None:
        return f"{len(epochs)} epochs."
    points = _points(epochs, key)
    (first, start), (last, end), (best, top) = points[0], points[-1], max(points, key=lambda point: point[1])
    what = "Validation accuracy" if key == "validation_accuracy" else f"{key.capitalize()} on the training images"
    told = f"{what} went from {percent(start)} after epoch {first:g} to {percent(end)} after epoch {last:g}"
    return f"{told}." if top == end else f"{told}; it was highest after epoch {best:g}, {percent(top)}."
