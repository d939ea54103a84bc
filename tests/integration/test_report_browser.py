"""Reports in a browser: nothing is asked for, nothing is complained about, everything fits, and axe finds no fault."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import Page, browser, chromium
from calling import secateur
from torch import nn

import secateur as sc
from secateur.report import write_report
from secateur.spec import RunRecord
from secateur.store import save_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium (apt-get install chromium)"),
]
DATA = ("--data", "digits", "--limit", 200)
FEW = ("--calibration", 64)
UNPLEASANT = (
    "<script>document.title='broken'</script>\"'><img src=https://example.com/x.png onerror=alert(1)>" + "n" * 9000
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A page of each kind of run, of all, of a deep network, and of one with unpleasant names."""
    folder = tmp_path_factory.mktemp("runs")
    commands = {
        "base": ("train", "lenet5", *DATA, "--epochs", 3, "--validation", 0.1, "--log", folder / "log.jsonl"),
        "small": ("prune", folder / "base", *DATA, *FEW, "--budget", "macs=0.5", "--latency"),
        "sparse": ("prune", folder / "base", *DATA, "--granularity", "element", "--budget", "sparsity=0.8"),
        "deep": ("prune", "resnet56", "--budget", "macs=0.5"),
        "sensitivity": ("sensitivity", folder / "base", *DATA, "--images", 64),
        "search": ("search", folder / "base", *DATA, *FEW, "--budget", "macs=0.8", "--short-steps", 2),
        "apart": ("partition", folder / "base", *DATA, *FEW, "--devices", 3, "--budget", "bytes=0.5"),
        "bench": ("bench", folder / "base", folder / "small", "--repeats", 2),
        "compare": ("compare", "lenet5", *DATA, "--calibration", 0, "--repeats", 2, "--train-epochs", 1, "--epochs", 1),
    }
    for name, arguments in commands.items():
        found = secateur(*arguments, "--out", folder / name)
        assert found.code == 0, found.err
    runs = [unpleasant(folder / "unpleasant"), *(folder / name for name in commands), folder / "log.jsonl"]
    shown = {run.stem: [run] for run in runs} | {"all": runs}
    for name, of in shown.items():
        write_report(of, folder / f"{name}.html")
    return [folder / f"{name}.html" for name in shown]


def unpleasant(folder: Path) -> Path:
    name = UNPLEASANT.replace(".", "")
    model = nn.Sequential()
    model.add_module(name, nn.Linear(6, 8))
    model.add_module("last", nn.Linear(8, 3))
    result = sc.prune(model, torch.randn(2, 6), budget={"channels": 0.5})
    record = RunRecord(name, name, {"macs": 4}, {"macs": 2, name: 1}, result.verification, {"model": name, name: name})
    return save_folder(result.model, folder, run=record, texts={"recipe.yaml": name})


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_pages_ask_for_nothing_complain_of_nothing_and_fit(
    tab: Page, pages: list[Path], width: int, dark: bool
) -> None:
    for path in pages:
        tab.open(path, width=width, dark=dark)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path.name
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, path.name
        assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        ground = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) < 3 * 64) is dark
        assert tab.evaluate("document.title").endswith("Secateur")
        assert tab.requests() == [path.as_uri()]
        assert tab.complaints() == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_no_fault(tab: Page, pages: list[Path], width: int, dark: bool) -> None:
    source = os.environ.get("SECATEUR_AXE")
    if not source:
        pytest.skip("needs axe-core: set SECATEUR_AXE to its axe.min.js (npm pack axe-core)")
    for path in pages:
        tab.open(path, width=width, dark=dark)
        tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        tab.evaluate(f"{Path(source).read_text(encoding='utf-8')}; 0")
        faults = "found.violations.map(one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 300)])"
        assert tab.evaluate(f"axe.run().then(found => {faults})") == [], path.name


def test_a_browser_that_is_asked_for_something_says_so(tab: Page, tmp_path: Path) -> None:
    """The tests above would see it."""
    loud = tmp_path / "loud.html"
    script = "console.log('here')"
    loud.write_text(f"<!doctype html><img src='http://127.0.0.1:9/x.png'><script>{script}</script>")
    tab.open(loud, width=360, dark=False)
    assert len(tab.requests()) == 2
    assert any("here" in text for text in tab.complaints())
    assert json.dumps(tab.requests()).count("x.png") == 1
