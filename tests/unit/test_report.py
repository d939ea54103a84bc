"""Reports: pages of every kind of run, made by the command line, and read as a browser would."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from calling import secateur
from torch import nn

import secateur as sc
from secateur.report import read_run, write_report
from secateur.report.charts import Scale
from secateur.report.density import read_densities
from secateur.report.numbers import NOTHING, exact, number
from secateur.report.partition import Partition
from secateur.report.search import Search
from secateur.spec import ElementMasks, RunRecord, SecateurError, StoreError
from secateur.spec.front import front_of
from secateur.store import save_folder
from secateur.store.masks import write_masks

TIMES = "\N{MULTIPLICATION SIGN}"
VOID = {"img", "meta", "wbr"}
HEADINGS = ("h1", "h2", "h3", "h4")
DATA = ("--data", "digits", "--limit", 200)


class Document(HTMLParser):
    """A page as a browser reads it; elements that are not closed, or in the wrong order, are errors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def text_of(self, *tags: str) -> list[str]:
        return [text for tag, text in self.texts if tag in tags]

    @property
    def text(self) -> str:
        return "".join(text for tag, text in self.texts if tag != "style")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every kind."""
    folder = tmp_path_factory.mktemp("runs")
    topology = folder / "topology.yaml"
    topology.write_text("devices: 2\n")
    base, few = folder / "base", ("--calibration", 64)
    commands = {
        "base": ("train", "lenet5", *DATA, "--epochs", 2, "--validation", 0.1, "--log", folder / "log.jsonl"),
        "small": ("prune", base, *DATA, *few, "--budget", "macs=0.5", "--latency"),
        "tuned": ("finetune", folder / "small", *DATA, "--epochs", 1),
        "sparse": ("prune", base, *DATA, "--granularity", "element", "--budget", "sparsity=0.8"),
        "depth": ("prune", "resnet20", "--granularity", "blocks", "--granularity", "channels", "--budget", "macs=0.5"),
        "sensitivity": ("sensitivity", base, *DATA, "--images", 64, "--ratio", 0.5, "--ratio", 0.9),
        "search": ("search", base, *DATA, *few, "--budget", "macs=0.8", "--short-steps", 2),
        "apart": ("partition", base, *DATA, *few, "--topology", topology, "--budget", "bytes=0.5"),
        "compare": ("compare", "lenet5", *DATA, "--calibration", 0, "--repeats", 1, "--train-epochs", 1, "--epochs", 1),
    }
    for name, arguments in commands.items():
        found = secateur(*arguments, "--out", folder / name)
        assert found.code == 0, found.err
    return folder


def shown(tmp_path: Path, *runs: Path) -> Document:
    page = tmp_path / "report.html"
    write_report(runs, page)
    return Document(page)


SECTIONS = {
    "base": {"Before and after", "Training"},
    "small": {"Before and after", "Widths", "What was cut together", "Proof"},
    "tuned": {"Before and after", "Training", "Widths", "What was cut together"},
    "sparse": {"Before and after", "Where the zeros are", "Proof"},
    "depth": {"Before and after", "Widths", "What was cut together", "Proof"},
    "sensitivity": {"Sensitivity"},
    "search": {"Before and after", "What there is to choose from", "Step by step", "Widths", "Proof"},
    "apart": {"What crosses", "Time by link rate", "Accuracy", "Devices", "Where the zeros are"},
    "compare": {"Accuracy", "Costs", "Widths: channels", "Where the zeros are: single weights"},
    "log.jsonl": {"Training"},
}


def demand_sound(page: Document) -> None:
    """What every page has to be: one that loads and runs nothing, and that can be read without seeing it."""
    assert page.all("html")[0]["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("h1", "main", "header")] == [1, 1, 1]
    assert [around for name, _, around in page.elements if name == "title" and "svg" not in around] == [
        ("html", "head")
    ]
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not {name for name, _, _ in page.elements} & {"script", "link", "iframe", "object", "base", "form"}
    for name, attributes, around in page.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/png;base64,")), attributes
        if name == "th":
            assert attributes["scope"] in ("col", "row")
        if name == "svg" and "aria-hidden" not in attributes:
            told = "svg" in around or (attributes["role"] == "img" and attributes["aria-label"])
            assert told, attributes
        if name == "img":
            assert attributes["alt"]
    assert "url(http" not in page.source.replace(" ", "")
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("figcaption")) == len(page.all("figure"))
    named = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(named) == len(set(named))
    links = [attributes["href"] for tag in ("a", "use") for attributes in page.all(tag)]
    assert {str(link)[1:] for link in links} <= set(named)
    levels = [HEADINGS.index(name) for name, _, _ in page.elements if name in HEADINGS]
    assert levels[0] == 0
    assert all(later <= level + 1 for level, later in pairwise(levels))


@pytest.mark.parametrize("kind", SECTIONS)
def test_every_kind_of_run_makes_a_sound_page(runs: Path, tmp_path: Path, kind: str) -> None:
    page = shown(tmp_path, runs / kind)
    demand_sound(page)
    assert SECTIONS[kind] | {"Where it comes from"} <= set(page.text_of("h2"))


def test_several_runs_stand_side_by_side_first_and_then_each(runs: Path, tmp_path: Path) -> None:
    page = shown(tmp_path, *(runs / kind for kind in SECTIONS))
    demand_sound(page)
    titles = page.text_of("h2")
    assert titles[0] == "Side by side"
    assert titles[1:] == [read_run(runs / kind).title() for kind in SECTIONS]
    assert len(page.all("article")) == len(SECTIONS)


def test_the_verdict_is_what_the_records_say(runs: Path) -> None:
    run = json.loads((runs / "small" / "run.json").read_text())
    found = {finding.what.split(",")[0]: finding.figure for finding in read_run(runs / "small").findings()}
    ratio = run["before"]["macs"] / run["after"]["macs"]
    assert found["multiply-accumulates"] == f"{ratio:.2g}{TIMES} fewer"
    assert any(figure == "✓ verified" for figure in found.values())
    lost = 100 * (run["before"]["accuracy"] - run["after"]["accuracy"])
    told = found.get("of accuracy lost", found.get("of accuracy won", ""))
    assert told.split()[0] == (f"{abs(lost):.2g}" if abs(lost) > 0.005 else "no")


def test_faster_is_said_only_beyond_what_times_vary_by() -> None:
    from secateur.report.run import findings_of

    def said(**after: float) -> str:
        return findings_of({"latency_ms": 2.0}, {"latency_ms": 1.0, **after})[0].figure

    assert said(speedup=1.5, speedup_iqr=0.2) == f"1.5{TIMES} faster"
    assert said(speedup=1.05, speedup_iqr=0.2) == "as fast"
    assert said(speedup=0.5, speedup_iqr=0.2) == f"2{TIMES} slower"
    assert findings_of({"latency_ms": 2.0}, {"latency_ms": 1.0}) == []  # taken at different hours


def test_widths_are_those_of_the_networks(runs: Path, tmp_path: Path) -> None:
    before, after = sc.load(runs / "base"), sc.load(runs / "small")
    text = shown(tmp_path, runs / "small").source
    for layer in ("conv1", "conv2", "fc1", "fc2", "fc3"):
        wide, narrow = (len(model.get_submodule(layer).weight) for model in (before, after))
        assert f"<bdi>{layer}</bdi></span></th><td>{wide}</td><td>{narrow}</td>" in text


def test_blocks_that_leave_have_no_width(runs: Path, tmp_path: Path) -> None:
    from secateur.report.widths import find_widths
    from secateur.store import history_of

    (plan,) = history_of(sc.load(runs / "depth"))
    gone = {block.module for block in plan.removed_blocks}
    widths = find_widths([plan])
    assert gone
    assert {width.layer.rpartition(".")[0] for width in widths if width.after == 0} == gone
    assert "left altogether" in shown(tmp_path, runs / "depth").text


def test_the_front_is_that_of_the_search(runs: Path) -> None:
    from secateur.search.netadapt.run_folder import RunFolder

    wanted = RunFolder(runs / "search").front()
    found = Search.read(runs / "search")
    assert found is not None and found.cost == "macs"
    assert [(row["iteration"], row["block"], row["macs"]) for row in front_of(found.tried, found.cost)] == [
        (row["iteration"], row["block"], row["macs"]) for row in wanted
    ]


def test_the_front_is_by_what_the_budget_limits(runs: Path, tmp_path: Path) -> None:
    journal = (runs / "search" / "search.jsonl").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "search.jsonl").write_text(journal.replace('"mac_count"', '"param_count"'))
    found = Search.read(tmp_path / "other")
    assert found is not None and found.cost == "param_count"
    text = shown(tmp_path, tmp_path / "other").text
    assert "Accuracy by parameters" in text and "Accuracy by multiply-accumulates" not in text
    front = front_of(found.tried, found.cost)
    assert all(
        any(kept["param_count"] <= row["param_count"] and kept["accuracy"] >= row["accuracy"] for kept in front)
        for row in found.tried
    )


def test_times_are_shown_of_a_network_that_could_not_run_before(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "links.yaml").write_text("devices: 2\nlinks: {missing: true}\n")
    few = ("--calibration", 64, "--recover", "none", "--budget", "bytes=1")
    links = ("--topology", tmp_path / "links.yaml", "--out", tmp_path / "apart")
    assert secateur("partition", runs / "base", *DATA, *few, *links).code == 0
    text = shown(tmp_path, tmp_path / "apart").text
    assert "Time by link rate" in text
    assert "before pruning" not in text.split("Time by link rate")[1].split("Times")[0]


def test_traffic_is_that_of_the_partition(runs: Path, tmp_path: Path) -> None:
    run = json.loads((runs / "apart" / "model" / "run.json").read_text())
    text = shown(tmp_path, runs / "apart").text
    for when in ("before", "after"):
        assert f"{run[when]['bytes'][0][1]:,}" in text
        assert f"{1e3 * run[when]['seconds']['critical_path']:.3g}" in text
        assert all(f"{1e3 * seconds:.3g}" in text for seconds in run[when]["seconds_by_rate"].values())
    assert [stage["stage"] for stage in run["stages"]][:2] == ["before", "cut"]


def test_a_partition_that_lost_nothing_says_so(runs: Path) -> None:
    found = Partition.read(runs / "apart")
    assert found is not None and found.model is not None
    stages = [{**stage, "accuracy": 0.875} for stage in found.model.record.stages]
    alike = replace(found, model=replace(found.model, record=replace(found.model.record, stages=stages)))
    figures = {finding.what: finding.figure for finding in alike.findings()}
    assert figures["of accuracy lost, 87.50 % as before"] == "no point"


def test_maps_are_the_masks(tmp_path: Path) -> None:
    mask = np.zeros((256, 130), dtype=bool)
    mask[:128, :65] = True
    mask[200, 129] = True
    write_masks(ElementMasks("element", {"wide": mask, "small": np.ones((3, 2, 1, 1), dtype=bool)}), tmp_path)
    wide, small = read_densities(tmp_path / "masks.safetensors")
    assert (wide.name, wide.kept, small.kept, small.cells.shape) == ("wide", 128 * 65 + 1, 6, (3, 2))
    assert wide.cells.shape == (64, 64)
    assert (wide.cells[:32, :32] == 1).all()
    assert np.count_nonzero(wide.cells[:, 33:]) == 1
    assert small.share == 1


def test_pictures_of_masks_are_png_with_the_density_as_ink(runs: Path, tmp_path: Path) -> None:
    images = [str(image["src"]) for image in shown(tmp_path, runs / "sparse").all("img")]
    assert len(images) == 5
    content = base64.b64decode(images[0].partition(",")[2])
    assert content.startswith(b"\x89PNG")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    assert (width, height, depth, colour) == (64, 64, 8, 4)
    length = struct.unpack(">I", content[33:37])[0]
    pixels = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8).reshape(height, 1 + 2 * width)
    (largest, *_) = read_densities(runs / "sparse" / "masks.safetensors")
    assert np.array_equal(pixels[:, 2::2], np.round(255 * largest.cells))


HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</style></title><h1>",
    "\u202egnp.exe\u2066 \x00\x1b[31m",
    "{{7*7}} &lt;b&gt; &#x3C;",
    "\ud800 lone",
    "שלום عالم",
    "n" * 10_000,
)


def hostile_folder(folder: Path, text: str) -> Path:
    """A run whose every name is this."""
    torch.manual_seed(0)
    name = text.replace(".", "").encode("utf-8", "replace").decode()
    model = nn.Sequential()
    model.add_module(name, nn.Linear(6, 8))
    model.add_module("last", nn.Linear(8, 3))
    result = sc.prune(model, torch.randn(2, 6), budget={"channels": 0.5})
    record = RunRecord(
        name,
        name,
        {"macs": 4, name: 1.0, "loss": float("nan"), "accuracy": "NaN"},
        {"macs": 2, name: 2.0, "loss": float("inf"), "accuracy": None, "param_count": 10**400},
        result.verification,
        {name: name, "model": name, "budget": [name], "data": {name: name}},
        ({"stage": name, "macs": 3}, {"stage": "cut"}, {"epoch": float("nan"), "loss": name}, {"epoch": 2}),
        {name: name},
        (name,),
    )
    return save_folder(result.model, folder, run=record, texts={"recipe.yaml": name})


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_names_hold_is_text(tmp_path: Path, text: str) -> None:
    folder = hostile_folder(tmp_path / "run", text)
    page = shown(tmp_path, folder, folder)
    demand_sound(page)
    assert len(page.source) < 300_000
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page.source)
    assert "alert(1)" not in page.source or "alert(1)" in page.text


def test_hostile_words_in_files_of_other_kinds_are_text(runs: Path, tmp_path: Path) -> None:
    evil = json.dumps(HOSTILE[1])[1:-1]
    for kind, file in (("sensitivity", "sensitivity.json"), ("compare", "comparison.json"), ("search", "search.jsonl")):
        folder = tmp_path / kind
        folder.mkdir()
        text = (runs / kind / file).read_text()
        text = text.replace("fc1", evil).replace("channels", evil).replace('"criterion": "', f'"criterion": "{evil}')
        assert evil in text
        (folder / file).write_text(text)
        demand_sound(shown(tmp_path, folder))


def test_what_was_not_measured_is_no_number(tmp_path: Path) -> None:
    page = shown(tmp_path, hostile_folder(tmp_path / "run", "plain"))
    assert "nan" not in page.text.lower()
    assert "Infinity" not in page.text
    assert f"2{TIMES} fewer" in page.text


@pytest.mark.parametrize("kind", ["sensitivity", "search", "apart", "compare", "log.jsonl", "small"])
def test_damage_is_one_clear_error_or_a_sound_page(runs: Path, tmp_path: Path, kind: str) -> None:
    names = {"search": "search.jsonl", "apart": "partition.json", "compare": "comparison.json", "small": "plan.json"}
    source = runs / kind if kind == "log.jsonl" else runs / kind / names.get(kind, "sensitivity.json")
    target = tmp_path / "run" / source.name
    target.parent.mkdir()
    whole, generator = source.read_bytes(), random.Random(0)
    if kind == "small":
        for name in ("manifest.json", "run.json", "recipe.yaml"):
            (target.parent / name).write_bytes((source.parent / name).read_bytes())
    for _ in range(60):
        start = generator.randrange(len(whole))
        middle = generator.choice([b"", b"7", b"null", b"[", b"{}", b"1e999", b'"', b"-0", b"[" * 100_000, b"\xff"])
        target.write_bytes(whole[:start] + middle + whole[start + generator.choice([1, 10, len(middle), 4000]) :])
        if kind == "small":  # by somebody who mends the manifest, too
            manifest = json.loads((source.parent / "manifest.json").read_text())
            manifest["sha256"]["plan.json"] = hashlib.sha256(target.read_bytes()).hexdigest()
            (target.parent / "manifest.json").write_text(json.dumps(manifest))
        path = target if kind == "log.jsonl" else target.parent
        try:
            page = shown(tmp_path, path)
        except SecateurError as error:
            assert "report.html" not in [entry.name for entry in tmp_path.iterdir()], error
            assert len(str(error)) < 1000
        else:
            demand_sound(page)
            (tmp_path / "report.html").unlink()


def test_what_is_no_run_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.py").write_text("x = 1\n")
    for path, expected in (("empty", "holds no run"), ("model.py", "is no JSON"), ("nowhere", "does not exist")):
        found = secateur("report", tmp_path / path, "-o", tmp_path / "page.html")
        assert (found.code, found.out) == (2, "")
        assert expected in found.err
    assert "name the folders" in secateur("report", "-o", tmp_path / "page.html").err
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["empty", "model.py"]


def test_a_folder_that_was_changed_is_refused(runs: Path, tmp_path: Path) -> None:
    from shutil import copytree

    folder = copytree(runs / "small", tmp_path / "small")
    text = (folder / "run.json").read_text()
    (folder / "run.json").write_text(text.replace('"ok": true', '"ok":true '))
    with pytest.raises(StoreError, match=r"run\.json was changed after it was saved"):
        write_report([folder], tmp_path / "page.html")
    (folder / "run.json").unlink()
    with pytest.raises(StoreError, match=r"incomplete: run\.json is missing"):
        write_report([folder], tmp_path / "page.html")


def test_a_page_replaces_a_page_and_nothing_else(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_report([runs / "small"], page)
    first = page.read_bytes()
    write_report([runs / "small"], page)
    assert page.read_bytes() == first
    page.write_text("<!doctype html><p>mine")
    with pytest.raises(StoreError, match="is no report"):
        write_report([runs / "small"], page)
    with pytest.raises(StoreError, match="is no folder"):
        write_report([runs / "small"], tmp_path / "none" / "page.html")
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_records_of_before_are_read(runs: Path, tmp_path: Path) -> None:
    """Those without what reports have added since."""
    old = tmp_path / "old"
    old.mkdir()
    record = json.loads((runs / "compare" / "comparison.json").read_text())
    (old / "comparison.json").write_text(json.dumps({key: record[key] for key in ("settings", "rows")}))
    assert "Costs" in shown(tmp_path, old).text_of("h2")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "sensitivity.json").write_bytes((runs / "sensitivity" / "sensitivity.json").read_bytes())
    demand_sound(shown(tmp_path, bare))


def test_pages_stay_small_however_large_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    curves = {f"layer.{number}.weight": [[0.1 * k, 0.01 * k] for k in range(1, 10)] for number in range(3000)}
    (folder / "sensitivity.json").write_text(json.dumps({"curves": curves, "shares": {}}))
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f'{{"epoch": {epoch}, "loss": {1 / epoch}}}\n' for epoch in range(1, 30_000)))
    page = shown(tmp_path, folder, log)
    demand_sound(page)
    assert len(page.source) < 200_000


def test_the_command_tells_what_the_page_shows(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    found = secateur("report", runs / "small", runs / "sensitivity", "-o", page, "--json")
    assert found.code == 0, found.err
    assert [run["run"] for run in found.record["runs"]] == [str(runs / "small"), str(runs / "sensitivity")]
    assert found.record["out"] == str(page)
    assert all(told in Document(page).text for told in found.record["runs"][0]["findings"])


def test_reports_need_no_torch(runs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from secateur.report import write_report; "
        "write_report(sys.argv[1:-1], sys.argv[-1]); sys.exit('torch' in sys.modules)"
    )
    paths = [str(runs / kind) for kind in SECTIONS]
    environment = {**os.environ, "PYTHONPATH": str(Path(sc.__file__).parents[1])}
    command = [sys.executable, "-c", code, *paths, str(tmp_path / "page.html")]
    subprocess.run(command, check=True, timeout=60, env=environment)


@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), 10**400, 1e305, True, "3", None, [1]], ids=lambda value: str(value)[:9]
)
def test_what_is_no_finite_number_is_none(value: object) -> None:
    assert number(value) is None
    assert exact(value) == NOTHING


@pytest.mark.parametrize(
    ("values", "ticks"),
    [((0.0, 1.0), [0.0, 0.5, 1.0]), ((3.0, 3.0), None), ((-1e299, 1e299), None), ((1e-12, 2e-12), None)],
)
def test_scales_hold_their_values(values: tuple[float, float], ticks: list[float] | None) -> None:
    scale = Scale.over(values, str)
    assert all(-1e-9 <= scale.at(value) <= 1 + 1e-9 for value in (*values, *scale.ticks()))
    assert 1 <= len(scale.ticks()) <= 8
    assert ticks is None or scale.ticks() == pytest.approx(ticks)
