"""Networks side by side: what a forward of each takes, engine by engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from secateur.report.html import Html, clipped, element, joined, name
from secateur.report.numbers import METRICS, NOTHING, milliseconds, plain, size
from secateur.report.parts import Section, facts, listed, table
from secateur.report.reading import read_bytes
from secateur.report.run import Finding, faster
from secateur.spec import BenchRecord, BenchRow, StoreError
from secateur.spec.bench import BENCH


@dataclass(frozen=True)
class Bench:
    """A folder of `secateur bench`."""

    path: Path
    record: BenchRecord

    @classmethod
    def read(cls, path: Path) -> Bench | None:
        """None where the folder holds none; raises StoreError where it is damaged."""
        if not (path / BENCH).is_file():
            return None
        try:
            record = BenchRecord.from_json(read_bytes(path / BENCH))
        except StoreError as error:
            raise StoreError(f"{path / BENCH}: {error}") from error
        if not record.rows:
            raise StoreError(f"{path / BENCH} holds no measurements; run secateur bench again")
        return cls(path, record)

    def title(self) -> str:
        return "Networks side by side"

    def done(self) -> Html:
        names = list(dict.fromkeys(row.model for row in self.record.rows))
        return joined([f"Forwards of {len(names)} networks, measured in turn ({self._about()})."])

    def _about(self) -> str:
        found = self.record
        return f"batch {found.batch}, threads {found.threads}, device {clipped(found.device)}, {found.repeats} rounds"

    def metrics(self) -> Mapping[str, float]:
        return {}

    def findings(self) -> list[Finding]:
        """The last network against the first, in each engine."""
        last = {row.engine: row for row in self.record.rows}
        found: list[Finding] = []
        for row in last.values():
            made = faster({"speedup": row.speedup, "speedup_iqr": row.speedup_iqr})
            if made is not None and row.model != self.record.rows[0].model:
                found.append(Finding(made.figure, f"{clipped(row.model, 30)} in {clipped(row.engine, 20)}"))
        return found

    def verified(self) -> bool | None:
        return None

    def sections(self) -> Iterator[Section]:
        yield Section("Measurements", self._numbers())
        yield Section("Where it comes from", self._provenance())

    def _numbers(self) -> Html:
        head = (
            "Network",
            "Engine",
            "Time of one forward",
            "IQR",
            "Samples a second",
            "Weights",
            "Peak memory",
            "Speed-up",
        )
        made = table("Forwards", head, ([name(row.model, 40), *_cells(row)] for row in self.record.rows))
        notes = listed(name(note, 300) for note in self.record.notes) if self.record.notes else Html("")
        return joined([made, notes])

    def _provenance(self) -> Html:
        versions = {key.capitalize(): name(value) for key, value in self.record.environment.items()}
        command = element("code", "secateur bench --recipe recipe.yaml")
        return facts({"Folder": str(self.path), "Command": command, "How": self._about(), **versions})


def _cells(row: BenchRow) -> list[object]:
    return [
        clipped(row.engine, 20),
        milliseconds(row.latency_ms),
        milliseconds(row.iqr_ms),
        plain(row.throughput),
        size(row.size_bytes),
        NOTHING if row.peak_memory_bytes is None else size(row.peak_memory_bytes),
        f"{METRICS['speedup'].shown(row.speedup)} ± {row.speedup_iqr / 2:.2g}",
    ]
