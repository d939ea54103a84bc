"""Budgets in measured time, with timers that are told what to measure: what is decided is then exact."""

from __future__ import annotations

import json
from math import inf, prod
from pathlib import Path

import numpy as np
import pytest
import torch
from calling import secateur
from torch import nn

import secateur as sc
from secateur.allocate import allocate
from secateur.cost import LatencyModel, compare_latency, latency_model
from secateur.cost.latency_model import Calibration
from secateur.cost.operators import timed_operators
from secateur.cost.speed import Speed
from secateur.cost.stairs import level_of, stair
from secateur.cost.stopwatch import Stopwatch
from secateur.cost.table import LatencyTable, table_of
from secateur.spec import Axis, BudgetError, Scores
from secateur.steps import prune_in_steps
from secateur.structure import trace_program

INPUTS, LARGER = (torch.randn(1, 3, 8, 8),), (torch.randn(1, 3, 48, 48),)


class Small(nn.Module):
    """Two convolutions, a norm and a residual block that may leave."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.blocks = nn.Sequential(Doubling(), Doubling())
        self.second = nn.Conv2d(32, 24, 3, padding=1)
        self.head = nn.Linear(24, 5)

    def forward(self, x):
        return self.head(self.second(self.blocks(self.norm(self.first(x)).relu())).mean((2, 3)))


class Doubling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(32, 32, 1)

    def forward(self, x):
        return x + self.conv(x)


@pytest.fixture(scope="module")
def traced():
    return trace_program(Small().eval(), INPUTS)


def by_elements(call) -> float:
    """A device on which an operator takes a microsecond per number that it reads."""
    return sum(prod(sample.shape) for sample in call.samples) / 1e3


def in_tiles(call) -> float:
    """A device that computes 8 outputs of a convolution at a time, and on which nothing else takes time."""
    if "convolution" not in call.key:
        return 0.0
    return sum(-(-sample.shape[0] // 8) for sample in call.samples if len(sample.shape) == 4)


def model_of(traced, timer, **options) -> LatencyModel:
    return LatencyModel(traced.structure, timed_operators(traced), timer, **options)


def scores_of(structure) -> Scores:
    rng = np.random.default_rng(0)
    return Scores("test", {axis.name: rng.random(axis.size) for axis in structure.prunable if axis.role != "blocks"})


def test_the_time_of_a_network_is_that_of_its_operators(traced):
    latency = model_of(traced, by_elements)
    operators = timed_operators(traced)
    for sizes in ({}, {"first.out": 16}, {"first.out": 16, "second.out": 10}, {"second.out": 10}):
        at = {**traced.structure.sizes, **sizes}
        assert latency.at(at) == pytest.approx(sum(by_elements(operator.at(at)) for operator in operators))
    assert len(operators) == 10, "views take no time: 4 convolutions, norm, relu, 2 sums, mean, product"


def test_a_block_that_leaves_takes_no_time(traced):
    latency = model_of(traced, by_elements)
    gone = latency.at({}) - latency.at({"blocks.0.block": 0})
    assert gone == pytest.approx((32 * 64 + 32 * 32 + 32 + 2 * 32 * 64) / 1e3)


def test_a_width_takes_as_long_as_the_next_that_is_measured(traced):
    latency = model_of(traced, by_elements)
    assert latency.at({"first.out": 13}) == latency.at({"first.out": 14}) > latency.at({"first.out": 12})
    assert [stair(width) for width in (1, 33, 64, 65, 130, 257, 1000)] == [2, 34, 64, 68, 136, 272, 1024]
    assert level_of(Axis("a", 45), 45) == 45
    assert level_of(Axis("heads", 12, "heads"), 7) == 7


def test_calibration_is_a_factor_and_a_constant(traced):
    plain, fitted = model_of(traced, by_elements), model_of(traced, by_elements, calibration=Calibration(2.0, 0.5))
    assert fitted.at({"first.out": 8}) == pytest.approx(2 * plain.at({"first.out": 8}) + 0.5)


def test_an_operator_that_cannot_run_alone_costs_in_proportion(traced):
    """At other sizes than its own, by what it reads and writes; when not even there, nothing, which is noted."""

    def only_whole(call) -> float:
        if "convolution" in call.key and (32, 3, 3, 3) not in [sample.shape for sample in call.samples]:
            raise RuntimeError
        return 10.0 if "convolution" in call.key else 0.0

    latency = model_of(traced, only_whole)
    read, made, weights = 3 * 64, 32 * 64, 32 * 27 + 32
    share = (read + made / 2 + weights / 2) / (read + made + weights)
    assert latency.at({"first.out": 16}) == pytest.approx(10 * share)
    assert "aten.convolution.default" in latency.notes[0]
    assert not model_of(traced, by_elements).notes


@pytest.mark.parametrize("allocator", ["uniform", "global", "knapsack", "adaptive"])
@pytest.mark.parametrize("budget", [{"latency": 0.6}, {"latency": 0.7, "macs": 0.4}, {"latency_ms": 9.0}], ids=str)
@pytest.mark.parametrize("timer", [by_elements, in_tiles], ids=["smooth", "tiles"])
def test_every_allocator_keeps_to_the_time(traced, timer, budget, allocator):
    structure, latency = traced.structure, model_of(traced, timer)
    plan = allocate(structure, scores_of(structure), budget, allocator=allocator, latency=latency)
    full = latency.at({})
    assert latency.at(plan.sizes) <= budget.get("latency", inf) * full + 1e-6
    assert latency.at(plan.sizes) <= budget.get("latency_ms", inf) + 1e-6
    macs = sc.CostModel(structure, "macs")
    assert macs.at(plan.sizes) <= budget.get("macs", inf) * macs.at({}) + 1e-6
    assert plan.kept


@pytest.mark.parametrize("unit", ["latency", "latency_ms"])
def test_what_is_too_short_is_refused_with_the_nearest_that_is_then_met(traced, unit):
    structure, latency = traced.structure, model_of(traced, by_elements)
    with pytest.raises(
        BudgetError, match=rf"budget {unit}=0.001 cannot be met.*nearest possible is {unit}="
    ) as refusal:
        allocate(structure, scores_of(structure), {unit: 0.001}, latency=latency)
    nearest = float(str(refusal.value).rsplit("=", 1)[1])
    plan = allocate(structure, scores_of(structure), {unit: nearest}, latency=latency)
    assert latency.at(plan.sizes) == pytest.approx(nearest * (latency.at({}) if unit == "latency" else 1), rel=1e-4)


@pytest.mark.parametrize("options", [{"budget": {"latency": 0.5}}, {"budget": {"macs": 0.5}, "round_to": "auto"}])
def test_without_measured_times_the_error_says_where_they_come_from(traced, options):
    with pytest.raises(BudgetError, match=r"measured time.*latency_model"):
        allocate(traced.structure, scores_of(traced.structure), **options)


@pytest.mark.parametrize("allocator", ["uniform", "global", "knapsack"])
def test_auto_keeps_widths_at_the_end_of_a_stair(traced, allocator):
    structure, latency = traced.structure, model_of(traced, in_tiles)
    for budget in (0.3, 0.5, 0.8):
        plan = allocate(
            structure, scores_of(structure), {"macs": budget}, allocator=allocator, round_to="auto", latency=latency
        )
        assert plan.kept
        assert [plan.sizes[axis] % 8 for axis in plan.kept] == [0] * len(plan.kept)


def test_auto_cuts_nothing_where_nothing_gets_faster(traced):
    latency = model_of(traced, lambda _: 1.0)
    scores = scores_of(traced.structure)
    assert not allocate(traced.structure, scores, {"macs": 1.0}, round_to="auto", latency=latency).kept
    with pytest.raises(BudgetError, match="nearest possible is macs=1"):
        allocate(traced.structure, scores, {"macs": 0.9}, round_to="auto", latency=latency)


def test_a_table_comes_back_from_disk_and_measures_anew_what_is_damaged(tmp_path):
    path = tmp_path / "cache" / "device.json"
    table, other = LatencyTable(path), LatencyTable(path)
    assert table.time_ms("a", lambda: 1.5) == table.time_ms("a", lambda: 9.0) == 1.5
    other.time_ms("b", lambda: 2.5)
    table.save()
    other.save()
    again = LatencyTable(path)
    assert (again.time_ms("a", lambda: 9.0), again.time_ms("b", lambda: 9.0)) == (1.5, 2.5)
    assert [file.name for file in path.parent.iterdir()] == ["device.json"]
    whole = path.read_text()
    for damaged in (whole[: len(whole) // 2], "[]", json.dumps({"schema_version": 99, "times_ms": {"a": 7}}), ""):
        path.write_text(damaged)
        assert LatencyTable(path).time_ms("a", lambda: 3.0) == 3.0


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path):
    (tmp_path / "file").write_text("")
    table = LatencyTable(tmp_path / "file" / "device.json")
    table.time_ms("a", lambda: 1.0)
    table.save()
    assert (tmp_path / "file").read_text() == ""


def test_the_table_belongs_to_device_version_and_threads(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = table_of(torch.device("cpu")).path
    assert path is not None and path.parent == tmp_path / "secateur" / "latency"
    assert f"torch-{torch.__version__.split('+')[0]}" in path.name
    assert f"{torch.get_num_threads()}-threads" in path.name


class Clock:
    """Time passes when something runs, on a machine that is `pace` times as slow as when nothing else goes on."""

    def __init__(self) -> None:
        self.now, self.pace = 0.0, 1.0

    def __call__(self) -> float:
        return self.now

    def taking(self, seconds: float):
        def run(*_):
            self.now += self.pace * seconds
            self.pace = 3.0 if self.now % 0.05 > 0.02 else 1.0

        return run


def test_a_busy_machine_does_not_change_what_is_measured():
    clock = Clock()
    stopwatch = Stopwatch(torch.device("cpu"), clock=clock, yardstick=clock.taking(0.0001))
    stopwatch.unit_ms = stopwatch.quickest_unit_ms()
    assert stopwatch.unit_ms == pytest.approx(0.1)
    for seconds in (0.000002, 0.0005, 0.004):
        assert stopwatch.time(clock.taking(seconds)) == pytest.approx(1e3 * seconds, rel=0.05)


class Taking(nn.Module):
    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.run = clock.taking(seconds)

    def forward(self, x):
        self.run()
        return x


def test_networks_are_compared_in_turn():
    clock = Clock()
    before, after = Taking(clock, 0.003), Taking(clock, 0.002)
    speed = compare_latency(before, after, torch.ones(4, 2), clock=clock)
    assert speed.speedup == pytest.approx(1.5, rel=0.01)
    assert speed.low <= speed.speedup <= speed.high
    assert (speed.after["batch"], speed.after["threads"]) == (4, torch.get_num_threads())
    assert before.training and after.training


def test_what_is_not_faster_is_said_plainly():
    about = {"threads": 1, "batch": 1}
    faster, slower = Speed(about, about, 1.2, 1.3, 1.4), Speed(about, about, 0.9, 1.01, 1.1)
    assert faster.said(macs_ratio=2).startswith("1.30 times as fast as before here, with 1 thread and batch 1")
    assert "quartiles 1.20 to 1.40" in faster.said(macs_ratio=2)
    assert slower.said(macs_ratio=1.31).startswith("not clearly faster: 1.01 times as fast")
    assert "1.31 times fewer multiply-accumulates; round_to='auto'" in slower.said(macs_ratio=1.31)
    assert "zeros save no time" in slower.said(macs_ratio=1)


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_pruning_to_a_time_measures_once_and_says_what_was_won(own_cache, monkeypatch):
    model, options = Small(), {"budget": {"latency": 0.7, "params": 0.9}, "round_to": 8, "allocator": "knapsack"}
    first = sc.prune(model, LARGER, **options)
    assert first.verification is not None and first.verification.ok
    assert first.plan.kept
    assert {"latency_ms", "iqr_ms", "speedup", "threads", "batch"} <= first.after.keys() & first.before.keys()
    assert first.after["speedup_iqr"] >= 0
    assert "times as fast as before" in first.table() and "times as fast as before" in first.run_record().notes[-1]

    measured: list[object] = []
    monkeypatch.setattr(Stopwatch, "share", lambda *_, **__: measured.append(1) or 1.0)
    again = sc.prune(model, LARGER, **options)
    assert not measured
    latency = latency_model(model.eval(), LARGER)
    assert latency.at(again.plan.sizes) <= 0.7 * latency.at({}) + 1e-6


def test_other_budgets_measure_no_time_unless_asked(own_cache):
    assert "latency_ms" not in sc.prune(Small(), INPUTS, budget={"macs": 0.5}).after
    assert "speedup" in sc.prune(Small(), INPUTS, budget={"macs": 0.5}, latency=True).after
    weights = sc.prune(Small(), INPUTS, budget={"sparsity": 0.5}, granularity="element", latency=True)
    assert "speedup" in weights.after
    assert not own_cache.exists()


def test_the_command_line_takes_budgets_in_time_and_auto(tmp_path):
    out = tmp_path / "small"
    options = ["--budget", "latency=0.95", "--round-to", "auto", "--targets", "layer3.0", "--out", out, "--json"]
    found = secateur("prune", "resnet20", *options)
    assert found.code == 0, found.err
    assert found.record["after"]["speedup"] > 0 and found.record["before"]["latency_ms"] > 0
    assert "times as fast as before" in found.err
    assert "times as fast as before" in (out / "README.md").read_text()
    listed = secateur("list", "budgets").out
    assert "latency_ms" in listed and "share of the time of one forward" in listed and "of partition: share" in listed


def test_steps_lead_to_a_share_of_the_time(own_cache):
    results = prune_in_steps(Small(), LARGER, budget={"latency": 0.6}, steps=2)
    first, last = (result.plan.made_by for result in results)
    aim_ms = 0.6 * first["predicted_before_ms"]
    assert first["budget"] == "latency=0.774597"
    assert float(last["budget"].removeprefix("latency_ms=")) == pytest.approx(aim_ms, rel=1e-4)
    assert last["predicted_ms"] <= aim_ms + 1e-6
