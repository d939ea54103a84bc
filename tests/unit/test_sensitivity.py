"""Sensitivity: what each layer costs alone, told from the most sensitive one on, and never measured twice."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from calling import Call, secateur
from torch import nn

import secateur as sc
from secateur.search import Journal, judged, weight_levels
from secateur.sparse import Pattern, masks_of, prunable_weights, sparsity
from secateur.spec import StoreError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sensitivity") / "base"
    assert secateur("train", "lenet5", "--data", "digits", "--epochs", 1, "--out", folder).code == 0
    return folder


def analysed(model: Path, out: Path, *more: object) -> Call:
    return secateur("sensitivity", model, "--data", "digits", "--images", 64, "--out", out, "--json", *more)


@pytest.mark.parametrize(("kind", "count"), [("element", 5), ("2:4", 5), ("channels", 4)])
def test_curves_are_ranked_and_drawn(trained: Path, tmp_path: Path, kind: str, count: int) -> None:
    found = analysed(trained, tmp_path / "out", "--granularity", kind, "--ratio", 0.5, "--ratio", 0.9)
    assert found.code == 0, found.err
    means = [sum(lost for _, lost in curve) / len(curve) for curve in found.record["curves"].values()]
    assert len(means) == count
    assert means == sorted(means, reverse=True)
    assert set(found.record["shares"]) == set(found.record["curves"])
    assert json.loads((tmp_path / "out" / "sensitivity.json").read_text()) == found.record
    drawn = ET.parse(tmp_path / "out" / "sensitivity.svg").getroot()
    assert sum(child.tag.endswith("polyline") for child in drawn) == count


def test_a_run_that_was_interrupted_goes_on(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import secateur.train as training

    whole = analysed(trained, tmp_path / "whole").record["curves"]
    calls, real = [], training.evaluate

    def dying(*args: object, **kwargs: object) -> dict[str, float]:
        calls.append(args)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "evaluate", dying)
    assert analysed(trained, tmp_path / "out").code == 130
    assert len(json.loads((tmp_path / "out" / "levels.json").read_text())["found"]) == 7
    assert analysed(trained, tmp_path / "out").record["curves"] == whole
    levels = sum(len(curve) for curve in whole.values())
    assert len(calls) == levels + 2  # the dense network, every level, and the one under way at the interruption
    more = analysed(trained, tmp_path / "out", "--ratio", 0.5, "--ratio", 0.6)
    assert more.code == 0
    assert len(calls) == levels + 2 + 5


def test_numbers_of_another_run_are_not_taken(trained: Path, tmp_path: Path) -> None:
    analysed(trained, tmp_path / "out", "--ratio", 0.5)
    found = analysed(trained, tmp_path / "out", "--ratio", 0.5, "--criterion", "random")
    assert found.code == 2
    assert "other criterion" in found.err
    (tmp_path / "out" / "levels.json").write_text('{"found": 3')
    assert "delete it" in analysed(trained, tmp_path / "out").err
    (tmp_path / "notes.txt").write_text("mine")
    assert "no earlier sensitivity" in analysed(trained, tmp_path).err


def test_bad_requests_are_one_message(trained: Path) -> None:
    for option, value, says in (
        ("--ratio", 1.0, "between 0 and 1"),
        ("--images", 0, "at least 1"),
        ("--granularity", "5:4", "N < M"),
        ("--sparsity", 1.0, "between 0 and 1"),
    ):
        found = secateur("sensitivity", trained, "--data", "digits", option, value)
        assert found.code == 2
        assert says in found.err


def test_each_level_has_its_zeros_in_one_tensor_alone(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1), nn.Linear(1, 1))
    scores = {name: weight.detach().abs() for name, weight in prunable_weights(model).items()}
    seen: list[dict[str, int]] = []

    def evaluate(made: nn.Module) -> float:
        seen.append({name: int((weight == 0).sum()) for name, weight in prunable_weights(made).items()})
        return sparsity(made)

    journal = Journal(tmp_path / "levels.json", {"seed": 0})
    curves = judged(model, weight_levels(model, scores, Pattern("element"), (0.25, 0.75)), evaluate, journal)
    assert [zeros for zeros in seen if any(zeros.values())] == [
        {"0.weight": 16, "1.weight": 0, "2.weight": 0},
        {"0.weight": 48, "1.weight": 0, "2.weight": 0},
        {"0.weight": 0, "1.weight": 2, "2.weight": 0},
        {"0.weight": 0, "1.weight": 6, "2.weight": 0},
    ]
    assert curves["1.weight"] == [(0.25, -2 / 73), (0.75, -6 / 73)]
    assert "2.weight" not in curves
    with pytest.raises(StoreError, match="other seed"):
        Journal(tmp_path / "levels.json", {"seed": 1})


@pytest.mark.parametrize("kind", ["element", "channels"])
def test_the_curves_say_what_each_layer_gives(trained: Path, tmp_path: Path, kind: str) -> None:
    curves = tmp_path / "curves"
    asked = ("--sparsity", 0.5) if kind == "element" else ("--tolerance", 0.05)
    record = analysed(trained, curves, "--granularity", kind, *asked).record
    budget = "sparsity=0.5" if kind == "element" else "channels=0.5"
    request = ("prune", trained, "--granularity", kind, "--budget", budget, "--out", tmp_path / "out", "--json")
    shares = ("--allocator", "adaptive", "--share", curves / "sensitivity.json")
    found = secateur(*request, *shares)
    assert found.code == 0, found.err
    if kind == "element":
        gone = masks_of(sc.load(tmp_path / "out")).sparsity
        free = [name for name in gone if gone[name] < 0.99]
        ratios = [gone[name] / record["shares"][name] for name in free if gone[name]]
        assert max(ratios) == pytest.approx(min(ratios), rel=0.05)
        assert max(ratios) == pytest.approx(1, abs=0.2)  # the shares were for this sparsity
    refused = secateur(*request, "--allocator", "adaptive", "--share", curves / "levels.json")
    assert refused.code == 2
    assert "holds no shares" in refused.err
