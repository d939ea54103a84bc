"""A network over several devices: what crosses between them, and what it is worth at which rate of the links."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.report.charts import Scale, Series, chart
from secateur.report.html import Html, element, joined, name
from secateur.report.numbers import METRICS, NOTHING, exact, number, percent, size
from secateur.report.parts import Section, facts, figure, paragraph, table
from secateur.report.reading import object_of, read_json, rows_of
from secateur.report.run import Finding, of_accuracy
from secateur.report.saved_model import SavedModel
from secateur.spec import StoreError

RECORD, MODEL = "partition.json", "model"
MOST_DEVICES = 24
"""Beyond these a matrix is not shown."""

Matrix = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Partition:
    """A folder of `secateur partition`."""

    path: Path
    topology: Mapping[str, Any]
    owners: Mapping[str, Any]
    shards: Sequence[Mapping[str, Any]]
    made_by: Mapping[str, Any]
    model: SavedModel | None
    """The network as a whole, with what was measured."""

    @classmethod
    def read(cls, path: Path) -> Partition | None:
        """None where the folder holds none; raises StoreError where it is damaged."""
        if not (path / RECORD).is_file():
            return None
        found = read_json(path / RECORD)
        topology, shards = object_of(found, "topology"), rows_of(found, "shards", path / RECORD)
        devices = topology.get("devices")
        if not isinstance(devices, int) or devices != len(shards):
            raise StoreError(f"{path / RECORD}: {len(shards)} shards for {devices} devices; partition again")
        model = SavedModel.read(path / MODEL)
        return cls(path, topology, object_of(found, "owners"), shards, object_of(found, "made_by"), model)

    def title(self) -> str:
        what = "A network" if self.model is None else self.model.network()
        return f"{what} on {len(self.shards)} devices"

    def done(self) -> Html:
        told = ((key, self.made_by.get(key)) for key in ("model", "strategy", "budget"))
        parts = [joined([f"{key} ", name(value, 60)]) for key, value in told if value is not None]
        return joined(["Taken apart", *(part for one in parts for part in (", ", one)), "."])

    def metrics(self) -> Mapping[str, float]:
        traffic = self._traffic("after") or self._traffic("before")
        return {} if traffic is None else {"link_bytes": _total(traffic)}

    def findings(self) -> list[Finding]:
        before, after = self._traffic("before"), self._traffic("after")
        found = []
        if before is not None and after is not None:
            found.append(Finding(METRICS["link_bytes"].change(_total(before), _total(after)), "bytes between devices"))
        pays = self._pays()
        if pays is not None:
            found.append(pays)
        lost = self._lost()
        return found if lost is None else [*found, lost]

    def verified(self) -> bool | None:
        return None

    def sections(self) -> Iterator[Section]:
        pictures = [made for when in ("before", "after") for made in [self._matrix(when)] if made]
        if pictures:
            yield Section("What crosses", joined(pictures))
        if self._by_rate("before") or self._by_rate("after"):
            yield Section("Time by link rate", self._rates())
        times = self._times()
        if times:
            head = ("For a sample, by estimate", "busiest device", "links in all", "start to end", "one device alone")
            yield Section("Times", table("Times, ms", head, times, kind="numbers"))
        stages = self._stages()
        if stages:
            yield Section("Accuracy", table("Accuracy by stage", ("Stage", "Accuracy"), stages))
        yield Section("Devices", self._devices())
        if self.model is not None:
            yield from self.model.pictures()
        where = facts({"Folder": str(self.path)}) if self.model is None else self.model.provenance()
        yield Section("Where it comes from", where)

    # What was measured.

    def _said(self, when: str) -> Mapping[str, Any]:
        if self.model is None:
            return {}
        return self.model.record.before if when == "before" else self.model.record.after

    def _traffic(self, when: str) -> Matrix | None:
        """Bytes of one sample from each device to each."""
        rows = self._said(when).get("bytes")
        if not isinstance(rows, list) or len(rows) != len(self.shards):
            return None
        found = [[number(value) for value in row] if isinstance(row, list) else [] for row in rows]
        if any(len(row) != len(rows) or None in row for row in found):
            return None
        return [[value for value in row if value is not None] for row in found]

    def _by_rate(self, when: str) -> list[tuple[float, float]]:
        """(Mbit/s of every link, milliseconds of a sample)."""
        told = object_of(self._said(when), "seconds_by_rate").items()
        pairs = [(_rate(rate), number(seconds)) for rate, seconds in told]
        return sorted((rate, 1e3 * seconds) for rate, seconds in pairs if rate and seconds and min(rate, seconds) > 0)

    def _alone(self) -> float | None:
        """Milliseconds of a sample on one device, before anything was pruned."""
        found = number(object_of(self._said("before"), "seconds").get("one_device"))
        return 1e3 * found if found and found > 0 else None

    def _pays(self) -> Finding | None:
        """With the slowest links with which the devices are faster than one of them."""
        alone, found = self._alone(), self._by_rate("after") or self._by_rate("before")
        faster = [rate for rate, time in found if alone is not None and time < alone]
        if faster:
            return Finding(f"{min(faster):g} Mbit/s", "of every link make the devices faster than one, by estimate")
        return None

    def _times(self) -> list[list[str]]:
        """Milliseconds."""
        rows: list[list[str]] = []
        for when in ("before", "after"):
            found = object_of(self._said(when), "seconds")
            busiest = max(_numbers(found.get("compute")), default=None)
            links = [seconds for row in _rows(found.get("transfer")) for seconds in _numbers(row)]
            ends = [number(found.get(key)) for key in ("critical_path", "one_device")]
            if found:
                rows.append([f"{when} pruning", *map(_milliseconds, (busiest, sum(links) if links else None, *ends))])
        return rows

    def _accuracies(self) -> list[tuple[str, float | None]]:
        stages = () if self.model is None else self.model.record.stages
        return [(str(stage.get("stage"))[:40], number(stage.get("accuracy"))) for stage in stages]

    def _stages(self) -> list[tuple[str, str]]:
        return [(stage, percent(accuracy)) for stage, accuracy in self._accuracies() if accuracy is not None]

    def _lost(self) -> Finding | None:
        found = [accuracy for _, accuracy in self._accuracies()]
        if len(found) < 2 or found[0] is None or found[-1] is None:
            return None
        return of_accuracy(found[0], found[-1])

    # Pictures.

    def _matrix(self, when: str) -> Html:
        traffic = self._traffic(when)
        if traffic is None:
            return Html("")
        title = {"before": "Before pruning", "after": "After pruning"}[when] if self._traffic("after") else "Traffic"
        if len(traffic) > MOST_DEVICES:
            return paragraph(f"{title}: {size(_total(traffic))} a sample; the table of so many devices is left out.")
        both = [*traffic, *(self._traffic("before") or [])]
        most = max((value for row in both for value in row), default=0.0) or 1.0
        head = ("From \\ to", *(f"device {number}" for number in range(len(traffic))), "all")
        rows = (
            [
                f"device {sender}",
                *(_cell(value, most, own=sender == to) for to, value in enumerate(row)),
                exact(sum(row)),
            ]
            for sender, row in enumerate(traffic)
        )
        says = f"{title}, {size(_total(traffic))} cross for a sample. The fuller the ground of a cell, the more bytes."
        return figure(table(f"{title}: bytes of one sample", head, rows, kind="numbers matrix"), says)

    def _rates(self) -> Html:
        found = {"before pruning": self._by_rate("before"), "after pruning": self._by_rate("after")}
        rates = sorted({rate for of in found.values() for rate, _ in of})
        alone = self._alone()
        if alone is not None:
            found["one device"] = [(rate, alone) for rate in rates]
        series = [Series(when, of) for when, of in found.items() if of]
        times = [time for one in series for _, time in one.points]
        across, up = _decades(rates), _decades(times)
        pays = self._pays()
        says = (
            "At none of these rates are the devices faster than one, by estimate."
            if pays is None
            else f"From {pays.figure} on the devices are faster than one, by estimate."
        )
        axes = ("Mbit/s of every link", "milliseconds a sample")
        picture = chart(series, across, up, title="Time by link rate", says=says, axes=axes)
        rows = [[f"{rate:g}", *(_at(one.points, rate) for one in series)] for rate in rates]
        head = ("Mbit/s", *(one.name for one in series))
        return figure(picture, says, table("Milliseconds a sample", head, rows, kind="numbers"))

    def _devices(self) -> Html:
        speeds = self.topology.get("speeds")
        rows = []
        for device, shard in enumerate(self.shards):
            speed = speeds[device] if isinstance(speeds, list) and device < len(speeds) else None
            owned = [sum(owner == device for owner in own) for own in self.owners.values() if isinstance(own, list)]
            home = " (home)" if device == self.topology.get("home") else ""
            rows.append(
                [
                    f"device {device}{home}",
                    exact(speed),
                    f"{sum(owned):,}",
                    size(number(shard.get("size_bytes")) or 0.0),
                ]
            )
        return table("Devices", ("Device", "G MACs a second", "Channels", "Weights"), rows)


def _total(traffic: Matrix) -> float:
    return sum(sum(row) for row in traffic)


def _rows(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _numbers(value: Any) -> list[float]:
    return [found for one in _rows(value) if (found := number(one)) is not None]


def _milliseconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{1e3 * seconds:.3g}"


def _rate(text: str) -> float | None:
    try:
        return number(float(text))
    except ValueError:
        return None


def _decades(values: Sequence[float]) -> Scale:
    low, high = (10.0 ** math.floor(math.log10(min(values))), 10.0 ** math.ceil(math.log10(max(values))))
    return Scale(low, max(high, 10 * low), lambda value: f"{value:g}", logarithmic=True)


def _at(pairs: Sequence[tuple[float, float]], rate: float) -> str:
    return next((f"{time:.3g}" for at, time in pairs if at == rate), NOTHING)


def _cell(value: float, most: float, *, own: bool) -> Html:
    if own:
        return element("span", NOTHING, class_="muted")
    return element("span", exact(value), class_=f"heat heat-{round(4 * value / most)}")
