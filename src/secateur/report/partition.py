"""A network over several devices: what crosses between them, and what it is worth at which rate of the links."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.report.charts import Scale, Series, chart
from secateur.report.html import Html, element, joined, name
from secateur.report.numbers import METRICS, NOTHING, exact, number, percent, size
from secateur.report.parts import Section, facts, figure, paragraph, table
from secateur.report.reading import object_of, read_json, rows_of
from secateur.report.run import Finding
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
        speedup = self._speedup("after") or self._speedup("before")
        if speedup:
            rate, times = max(speedup, key=lambda pair: pair[1])
            found.append(Finding(f"{times:.2g}×", f"as fast as one device with links of {rate:g} Mbit/s, by estimate"))
        lost = self._lost()
        return found if lost is None else [*found, lost]

    def verified(self) -> bool | None:
        return None

    def sections(self) -> Iterator[Section]:
        pictures = [made for when in ("before", "after") for made in [self._matrix(when)] if made]
        if pictures:
            yield Section("What crosses", joined(pictures))
        if self._speedup("before"):
            yield Section("Speed-up by link rate", self._rates())
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

    def _speedup(self, when: str) -> list[tuple[float, float]]:
        pairs = ((_rate(rate), number(times)) for rate, times in object_of(self._said(when), "speedup").items())
        return sorted((rate, times) for rate, times in pairs if rate is not None and rate > 0 and times is not None)

    def _times(self) -> list[list[str]]:
        """Milliseconds."""
        rows: list[list[str]] = []
        for when in ("before", "after"):
            found = object_of(self._said(when), "seconds")
            busiest = max(_numbers(found.get("compute")), default=None)
            links = [seconds for row in _rows(found.get("transfer")) for seconds in _numbers(row)]
            ends = [number(found.get(key)) for key in ("critical_path", "one_device")]
            if found:
                rows.append([f"{when} pruning", *map(_milliseconds, (busiest, sum(links), *ends))])
        return rows

    def _stages(self) -> list[tuple[str, str]]:
        stages = () if self.model is None else self.model.record.stages
        found = [(str(stage.get("stage"))[:40], number(stage.get("accuracy"))) for stage in stages]
        return [(stage, percent(accuracy)) for stage, accuracy in found if accuracy is not None]

    def _lost(self) -> Finding | None:
        stages = () if self.model is None else self.model.record.stages
        found = [number(stage.get("accuracy")) for stage in stages]
        if len(found) < 2 or found[0] is None or found[-1] is None:
            return None
        points = 100 * (found[-1] - found[0])
        return Finding(f"{abs(points):.2g} points", f"of accuracy {'lost' if points < 0 else 'won'}")

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
        found = {"before pruning": self._speedup("before"), "after pruning": self._speedup("after")}
        series = [Series(when, of) for when, of in found.items() if of]
        every = [point for one in series for point in one.points]
        rates = [rate for rate, _ in every]
        across = Scale(min(rates), max(max(rates), 10 * min(rates)), lambda rate: f"{rate:g}", logarithmic=True)
        up = Scale.over([0.0, *(times for _, times in every)], lambda times: f"{times:g}×")
        best = max(every, key=lambda point: point[1])
        says = (
            f"At best {best[1]:.2f} times as fast as one device alone, with links of {best[0]:g} Mbit/s; by estimate."
        )
        picture = chart(
            series,
            across,
            up,
            title="Speed-up by link rate",
            says=says,
            axes=("Mbit/s of every link", "times as fast as one device"),
        )
        rows = [[f"{rate:g}", *(_at(of, rate) for of in found.values() if of)] for rate in dict.fromkeys(rates)]
        return figure(picture, says, table("Speed-up", ("Mbit/s", *(one.name for one in series)), rows))

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


def _at(pairs: Sequence[tuple[float, float]], rate: float) -> str:
    return next((f"{times:.3g}×" for at, times in pairs if at == rate), NOTHING)


def _cell(value: float, most: float, *, own: bool) -> Html:
    if own:
        return element("span", NOTHING, class_="muted")
    return element("span", exact(value), class_=f"heat heat-{round(4 * value / most)}")
