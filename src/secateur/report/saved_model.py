"""Folders with a model: what was done to it, what it cost, the proof, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.report import graph
from secateur.report.density import Density, maps, read_densities
from secateur.report.html import Html, clipped, element, joined, name
from secateur.report.numbers import METRICS, NOTHING, exact, measured, number, percent
from secateur.report.parts import Section, facts, hidden, listed, paragraph, table
from secateur.report.reading import demand_unchanged, read_bytes
from secateur.report.run import Finding, faster, findings_of
from secateur.report.training import curves
from secateur.report.widths import bars, find_widths, since
from secateur.spec import Plan, RunRecord, StoreError, Verification
from secateur.spec.saved import MANIFEST, MASKS, PLAN, RECIPE, RUN, Manifest, Plans

DONE = {
    "prune": "Pruned",
    "train": "Trained",
    "finetune": "Retrained",
    "search": "Found by search:",
    "compare": "Compared:",
    "partition": "Took apart",
    "save": "Saved",
}
FEW_ZEROS = 5e-4
"""Of the weights; so many are there by chance."""
TOLD = ("budget", "method", "criterion", "allocator", "recover", "granularity", "data", "epochs", "cell")
"""Options that say in a sentence what was done."""


@dataclass(frozen=True)
class SavedModel:
    """A folder that `prune`, `train`, `finetune`, `materialise` or `save` wrote."""

    path: Path
    record: RunRecord
    manifest: Manifest
    plans: tuple[Plan, ...]
    densities: Sequence[Density]
    recipe: str

    @classmethod
    def read(cls, path: Path) -> SavedModel | None:
        """None where the folder holds no model; raises StoreError where it is damaged. Weights are not looked at."""
        if not (path / MANIFEST).is_file():
            return None
        manifest = Manifest.from_json(read_bytes(path / MANIFEST))
        record = RunRecord.from_json(_unchanged(path / RUN, manifest))
        plans = Plans.from_json(_unchanged(path / PLAN, manifest)).plans
        recipe = _unchanged(path / RECIPE, manifest) if RECIPE in manifest.sha256 else b""
        densities: Sequence[Density] = ()
        if MASKS in manifest.sha256:
            _demand_there(path / MASKS)
            demand_unchanged(path / MASKS, manifest.sha256)
            densities = read_densities(path / MASKS)
        return cls(path, record, manifest, plans, densities, recipe.decode(errors="replace"))

    def title(self) -> str:
        return f"{DONE.get(self.record.verb, 'Made')} {self.network()}"

    def network(self) -> str:
        """The class, without its module."""
        return clipped(self.record.model.rsplit(".", 1)[-1], 40)

    def done(self) -> Html:
        record = self.record
        told = [(key, record.options.get(key)) for key in TOLD]
        how = [joined([f"{key} ", name(value, 60)]) for key, value in told if value not in (None, [], "", "auto")]
        start = name(record.options.get("model") or "Python", 60)
        return joined(["From ", start, *(part for one in how for part in (", ", one)), "."])

    def metrics(self) -> Mapping[str, float]:
        return measured(self.record.after)

    def findings(self) -> list[Finding]:
        before, after = self.record.before, self.record.after
        if self.record.verb != "train":
            return [*findings_of(before, after), *proof_found(self.record)]
        accuracy = self.metrics().get("accuracy")  # what random weights had is no news
        found = [] if accuracy is None else [Finding(percent(accuracy), "accuracy on the test images")]
        costs = {key: value for key, value in before.items() if key not in ("accuracy", "loss")}
        return [*found, *findings_of(costs, after), *proof_found(self.record)]

    def verified(self) -> bool | None:
        found = self.record.verification
        return None if found is None else found.ok

    def sections(self) -> Iterator[Section]:
        yield from self.costs()
        yield from self.pictures()
        yield from self.proved()
        yield Section("Where it comes from", self.provenance())

    def costs(self) -> Iterator[Section]:
        """What it cost and what it won, and the training."""
        if self.metrics() or measured(self.record.before):
            yield Section("Before and after", outcome(self.record))
        if any("epoch" in stage for stage in self.record.stages):
            yield Section("Training", curves([stage for stage in self.record.stages if "epoch" in stage]))

    def pictures(self) -> Iterator[Section]:
        """Of the network: widths, masks, structure."""
        counted = since(self.plans)
        widths = find_widths(counted) if counted else []
        if widths:
            yield Section("Widths", bars(widths, of_last=len(counted) < len(self.plans)))
        if self.densities:
            yield Section("Where the zeros are", maps(list(self.densities)))
        if counted:
            yield Section("What was cut together", graph.drawn(counted))

    def proved(self) -> Iterator[Section]:
        """The proof, and what else is to be known."""
        if self.record.verification is not None:
            yield Section("Proof", proof(self.record.verification))
        if self.record.notes:
            yield Section("Notes", listed(self.record.notes))

    def provenance(self) -> Html:
        """Command, options, versions, hashes."""
        record, manifest = self.record, self.manifest
        told = {
            "Folder": str(self.path),
            "Command": element("code", f"secateur {clipped(record.verb)} --recipe {RECIPE}")
            if self.recipe
            else NOTHING,
            "Network": name(record.model, 200),
            "Built from": name(manifest.source.get("name") or "a factory of the user's own", 200),
            "Seed": name(record.options.get("seed", NOTHING)),
            **{f"Version of {clipped(key, 40)}": name(value) for key, value in record.environment.items()},
            "Plans": len(self.plans),
        }
        asked = [(name(key), name(value, 200)) for key, value in record.options.items()]
        options = table("Options", ("Option", "Value"), asked, kind="words") if asked else ""
        files = (
            (name(file), exact(manifest.size_bytes.get(file)), _hash(sha)) for file, sha in manifest.sha256.items()
        )
        hashes = table("Files and their hashes", ("File", "Bytes", "sha256"), files, kind="numbers")
        return joined(
            [
                facts(told),
                hidden(self.recipe, "Recipe") if self.recipe else _folded("Options", options) if asked else "",
                _folded("Files and hashes", hashes),
            ]
        )


def _folded(summary: str, content: object) -> Html:
    return element("details", element("summary", summary), content)


def _hash(sha256: str) -> Html:
    return element("code", sha256[:64])


def _unchanged(path: Path, manifest: Manifest) -> bytes:
    _demand_there(path)
    content = read_bytes(path)
    demand_unchanged(path, manifest.sha256)
    return content


def _demand_there(path: Path) -> None:
    if not path.is_file():
        raise StoreError(f"{path.parent} is incomplete: {path.name} is missing; copy the whole folder again")


def outcome(record: RunRecord) -> Html:
    """Metrics before, after the cut, and in the end."""
    before, after = measured(record.before), measured(record.after)
    cut = next((measured(stage) for stage in record.stages if stage.get("stage") == "cut"), {})
    healed = bool(cut) and len(record.stages) > 1
    titles = ("Metric", "Before", *(("Cut",) if healed else ()), "Healed" if healed else "After", "Change")
    rows: list[list[object]] = []
    for key, metric in METRICS.items():
        if not _is_shown(key, before, after):
            continue
        middle = [cut.get(key)] if healed else []
        values = [
            metric.shown(value) if value is not None else NOTHING
            for value in (before.get(key), *middle, after.get(key))
        ]
        change = _change(key, before, record.after)
        rows.append([metric.label, *values, change])
    stages = [stage for stage in record.stages if "stage" in stage]
    exactly = _exact(record, stages)
    return joined(
        [
            table("Before and after", titles, rows, kind="numbers outcome staged" if healed else "numbers outcome"),
            _folded("All numbers, exactly", exactly),
        ]
    )


def _is_shown(key: str, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """The speed-up stands beside the time, as its change."""
    if key == "sparsity":
        return max(before.get(key, 0.0), after.get(key, 0.0)) > FEW_ZEROS
    return key != "speedup" and (key in before or key in after)


def _change(key: str, before: Mapping[str, float], after: Mapping[str, Any]) -> str:
    if key == "latency_ms":
        found = faster(after)
        return "" if found is None else found.figure
    new = number(after.get(key))
    return METRICS[key].change(before[key], new) if key in before and new is not None else ""


def _exact(record: RunRecord, stages: Sequence[Mapping[str, Any]]) -> Html:
    """Whatever was measured, under the keys of the record."""
    columns = [("before", record.before), *((str(s["stage"]), s) for s in stages), ("after", record.after)]
    keys = dict.fromkeys(key for _, values in columns for key in values if key != "stage")
    rows = (
        [name(key), *(exact(values.get(key)) for _, values in columns)]
        for key in keys
        if any(number(values.get(key)) is not None for _, values in columns)
    )
    return table("All numbers", ("Key", *(name(title, 24) for title, _ in columns)), rows)


def proof(verification: Verification) -> Html:
    """What was compared, and how far it is apart."""
    state = element("strong", "✓ Verified." if verification.ok else "✗ Not verified.")
    told = {
        "Largest difference": exact(verification.max_abs_diff),
        "Over the largest output": exact(verification.relative_diff),
        "Tolerance": exact(verification.tolerance),
    }
    if verification.detail:
        told["Detail"] = verification.detail[:1000]
    explained = (
        " The result was compared with the reference: the original network, told at each sum which entries to skip."
    )
    return joined([paragraph(state, explained), facts(told)])


def proof_found(record: RunRecord) -> list[Finding]:
    """The verdict's last part."""
    verification = record.verification
    if verification is None:
        return [Finding("not verified", "no proof was asked for")] if record.verb == "prune" else []
    apart = number(verification.relative_diff)
    told = (
        "no difference from the reference"
        if apart == 0
        else f"differs by {NOTHING if apart is None else f'{apart:.1e}'} of the output's scale"
    )
    return [Finding("✓ verified" if verification.ok else "✗ not verified", told)]
