"""The search block by block: what an iteration tries, who stays in the race, and what is kept of it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import secateur
from torch import distributed, nn

import secateur as sc
from secateur.allocate.knobs import Limits
from secateur.cost import CostModel, network_costs
from secateur.cost.table import LatencyTable
from secateur.data import open_data
from secateur.models import build_model, example_inputs
from secateur.search.netadapt import Search, SearchConfig, SearchResult, candidate
from secateur.search.netadapt.proposals import ALL_BLOCKS, Proposal, goals_of, multiples, proposals
from secateur.search.netadapt.records import Records
from secateur.search.workers import Failure, InProcess, Task, open_workers
from secateur.spec import BudgetError, Structure, parse_budgets
from secateur.store import read_run
from secateur.structure import clone
from secateur.train import Distillation, TrainConfig, block_features

SHAPE = (1, 28, 28)


def lenet() -> tuple[nn.Module, tuple[torch.Tensor]]:
    return build_model("lenet5", input_shape=SHAPE), example_inputs("lenet5", input_shape=SHAPE)


def search(path: Path, **options: Any) -> Search:
    """A quick one: half of LeNet-5 on some digits."""
    model, inputs = lenet()
    images = open_data("digits", "train", input_shape=SHAPE, limit=200)
    few = TrainConfig(batch_size=32, learning_rate=0.05)
    config = replace(
        SearchConfig(block_ratio=0.2, recover="none", short_steps=2, short_training=few, held_out=0.3), **options
    )
    return Search(model, inputs, parse_budgets("macs=0.6"), images, path, config)


def test_each_proposal_alone_saves_the_share_and_no_more_than_it_must() -> None:
    model, inputs = lenet()
    structure = sc.trace(model, *inputs)
    goals = goals_of(parse_budgets("macs=0.3,params=0.5"), structure, None)
    made = proposals(structure, sc.score(model, structure), goals, 0.1, Limits())
    full = network_costs(structure)
    assert {one.block for one in made} >= {"conv2.out"}

    def saves(block: str, size: int) -> bool:
        costs = network_costs(structure, {**structure.sizes, block: size})
        return all(costs[key] <= full[key] * 0.9 for key in ("macs", "param_count"))

    for one in made:
        assert one.plan.sizes == {**structure.sizes, one.block: one.after}
        assert saves(one.block, one.after) and not saves(one.block, one.after + 1)
    others = {axis.name for axis in structure.axes if axis.chosen} - {one.block for one in made}
    assert not any(saves(block, 1) for block in others)


def test_where_no_block_saves_enough_each_goes_as_far_as_it_can() -> None:
    model, inputs = lenet()
    structure = sc.trace(model, *inputs)
    goals = goals_of(parse_budgets("macs=0.3"), structure, None)
    limits = Limits(min_keep=5)
    made = proposals(structure, sc.score(model, structure), goals, 0.65, limits)
    assert {one.block: one.after for one in made} == {"conv1.out": 5, "conv2.out": 5, "fc1.out": 5, "fc2.out": 5}
    with pytest.raises(sc.SecateurError, match="no block can be cut any further"):
        proposals(structure, sc.score(model, structure), goals, 0.1, Limits(min_keep=200))


def test_all_blocks_together_save_the_share_too_and_go_further_than_any_alone() -> None:
    model, inputs = lenet()
    structure = sc.trace(model, *inputs)
    scores, full = sc.score(model, structure), network_costs(structure)["macs"]
    goals = goals_of(parse_budgets("macs=0.05"), structure, None)

    def tried(share: float) -> list[Proposal]:
        return proposals(structure, scores, goals, share, Limits(), allocator="uniform")

    together = tried(0.3)[-1]
    assert together.block == ALL_BLOCKS and len(together.plan.kept) > 2
    assert together.plan.kept == sc.allocate(structure, scores, {"macs": 0.7}).kept
    assert network_costs(structure, together.plan.sizes)["macs"] <= 0.7 * full
    assert [one.block for one in tried(0.9)] == [ALL_BLOCKS]
    assert ALL_BLOCKS not in [one.block for one in tried(0.1)]  # it is a single block's cut


def test_sizes_are_rounded_down_where_they_are_no_multiples() -> None:
    model, inputs = lenet()
    structure = sc.trace(model, *inputs)
    plan = multiples(structure, sc.score(model, structure), Limits(round_to=8))
    assert plan is not None
    sizes = {name: plan.sizes[name] for name in ("conv1.out", "conv2.out", "fc1.out", "fc2.out")}
    assert sizes == {"conv1.out": 6, "conv2.out": 16, "fc1.out": 120, "fc2.out": 80}  # 6 has no multiple below
    assert multiples(structure, sc.score(model, structure), Limits()) is None


def test_a_search_ends_within_the_budget_and_all_is_on_the_disk(tmp_path: Path) -> None:
    found = search(tmp_path / "run", final_round_to=2, long_epochs=1, teacher=0.5)
    given = {name: tensor.clone() for name, tensor in found.model.state_dict().items()}
    result = found.run()
    assert all(torch.equal(tensor, given[name]) for name, tensor in found.model.state_dict().items())
    assert result.after["macs"] <= 0.6 * result.before["macs"]
    assert all(size % 2 == 0 or size == 1 for size in _widths(result.model))
    assert result.verification is not None and result.verification.ok
    lines = (tmp_path / "run" / "search.csv").read_text().splitlines()
    assert lines[0] == "N,layer,before,after,accuracy,size,macs" and len(lines) == 1 + len(result.rows)
    loaded = sc.load(result.folder, lenet()[0])
    x = torch.randn(2, *SHAPE)
    assert torch.equal(loaded(x), result.model.eval()(x))
    macs = [row["macs"] for row in result.front]
    accuracies = [row["accuracy"] for row in result.front]
    assert macs == sorted(macs, reverse=True) and accuracies == sorted(accuracies, reverse=True)


class ByParameters(CostModel):
    """Of a device on which a parameter takes a millisecond."""

    def __init__(self, structure: Structure) -> None:
        super().__init__(structure, "params")
        self.table = LatencyTable()


def test_a_search_for_time_tells_times_and_its_front_is_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "_latency", lambda _, __, traced: ByParameters(traced.structure))
    found, said = search(tmp_path / "run"), list[str]()
    result = replace(found, budgets=parse_budgets("latency=0.6"), told=said.append).run()
    assert result.after["latency_ms"] <= 0.6 * result.before["latency_ms"]
    assert said[0].endswith("ms") and said[-1].endswith(f"{result.rows[-1]['latency_ms']:.3f}")
    times = [row["latency_ms"] for row in result.front]
    assert result.front_by == "latency_ms" and times == sorted(times, reverse=True)
    for iteration in {row["iteration"] for row in result.rows}:
        for tried in found.folder.noted(iteration, 0).values():
            assert any(row["accuracy"] >= tried["accuracy"] for row in result.front)
    saved = read_run(found.folder.of_iteration(1))
    assert saved.before["latency_ms"] > saved.after["latency_ms"]


def test_a_search_goes_on_for_time_from_what_it_did_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "_latency", lambda _, __, traced: ByParameters(traced.structure))
    first = search(tmp_path / "run").run()
    for_time = replace(search(tmp_path / "run"), budgets=parse_budgets("latency=0.3"))
    result = for_time.run(from_iteration=1)
    assert result.rows[0] == first.rows[0] and "latency_ms" not in result.rows[0]
    assert len(result.rows) > 1 and all(row["iteration"] > 1 for row in result.front)
    report = secateur("report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert report.code == 0 and "Accuracy by time of one forward" in (tmp_path / "page.html").read_text()


def _widths(model: nn.Module) -> list[int]:
    return [module.weight.shape[0] for module in model.modules() if isinstance(module, nn.Conv2d)]


def test_candidates_learn_what_blocks_of_the_dense_network_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of blocks that have lost channels of their outputs in iterations before."""
    dense, inputs = build_model("resnet20").eval(), example_inputs("resnet20")
    cut = {"budget": {"params": 0.7}, "criterion": "random", "recover": "none"}
    first = sc.prune(dense, inputs, **cut)
    second = sc.prune(first.model, inputs, **cut)
    taught: list[Distillation] = []
    monkeypatch.setattr(candidate, "fit", lambda *_, distillation, **__: taught.append(distillation))
    images = open_data("digits", "train", input_shape=(3, 32, 32), limit=16)
    config = SearchConfig(recover="none", teacher=0.5, teacher_features=2.0)
    shared = {"base": clone(first.model), "plans": (first.plan,), "teacher": dense}
    shared["material"] = candidate.Material(inputs, images, images, config)
    candidate.judged(shared, "cpu", plan=second.plan, weights=None, steps=1, seed=0)
    wanted = block_features(second.model, dense, inputs)
    assert [(pair.student, pair.kept.keys()) for pair in taught[0].features] == [
        (pair.student, pair.kept.keys()) for pair in wanted
    ]
    assert any(pair.kept for pair in wanted)
    assert not any(module._forward_hooks for module in dense.modules())


@pytest.mark.parametrize("options", [{"teacher_features": 1.0}, {"teacher": 0.5, "teacher_features": -1.0}])
def test_features_need_a_teacher_and_a_weight(options: dict[str, float]) -> None:
    with pytest.raises(BudgetError, match="teacher_features="):
        SearchConfig(**options)  # type: ignore[arg-type]


def test_the_race_drops_who_is_behind_and_the_exhaustive_one_nobody(tmp_path: Path) -> None:
    search(tmp_path / "race").run()
    search(tmp_path / "whole", exhaustive=True).run()
    for name, stages in (("race", {0, 1, 2}), ("whole", {0})):
        events = [json.loads(line) for line in (tmp_path / name / "search.jsonl").read_text().splitlines()]
        first = [event for event in events if event["event"] == "candidate" and event["iteration"] == 1]
        assert {event["stage"] for event in first} == stages
        last = [event for event in first if event["stage"] == max(stages)]
        chosen = next(event for event in events if event["event"] == "chosen")
        best = max(last, key=lambda event: (event["accuracy"], -event["loss"]))
        assert (chosen["block"], chosen["accuracy"]) == (best["block"], best["accuracy"])


def test_the_race_can_be_about_the_loss(tmp_path: Path) -> None:
    search(tmp_path / "run", judge_by="loss").run()
    events = [json.loads(line) for line in (tmp_path / "run" / "search.jsonl").read_text().splitlines()]
    for chosen in (event for event in events if event["event"] == "chosen"):
        raced = [
            event for event in events if event["event"] == "candidate" and event["iteration"] == chosen["iteration"]
        ]
        last = max(event["stage"] for event in raced)
        assert chosen["loss"] == min(event["loss"] for event in raced if event["stage"] == last)
    with pytest.raises(BudgetError, match="judge_by='taste'"):
        SearchConfig(judge_by="taste")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"exhaustive": True}, {"short_steps": 0}])
def test_the_winner_alone_is_trained_for_more(options: dict[str, Any], tmp_path: Path) -> None:
    search(tmp_path / "run", winner_steps=3, **options).run()
    events = [json.loads(line) for line in (tmp_path / "run" / "search.jsonl").read_text().splitlines()]
    first = [event for event in events if event["event"] == "candidate" and event["iteration"] == 1]
    *_, before, last = first
    assert [event["stage"] for event in first].count(last["stage"]) == 1
    raced = [event for event in first if event["stage"] == before["stage"]]
    best = max(raced, key=lambda event: (event["accuracy"], -event["loss"]))
    assert (best["block"], best["loss"] != last["loss"]) == (last["block"], True)
    chosen = next(event for event in events if event["event"] == "chosen")
    assert (chosen["block"], chosen["accuracy"]) == (last["block"], last["accuracy"])


def test_a_search_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole").run()
    journal = (tmp_path / "whole" / "search.jsonl").read_text().splitlines(keepends=True)
    cut = tmp_path / "cut"
    again = search(cut)
    told: list[str] = []

    def until_third(text: str) -> None:
        told.append(text)
        if len(told) == 5:
            raise KeyboardInterrupt

    again.told = until_third
    with pytest.raises(KeyboardInterrupt):
        again.run()
    with (cut / "search.jsonl").open("a") as file:
        file.write('{"event": "candid')  # a line that was being written when the process died
    resumed = search(cut).run()
    assert resumed.rows == whole.rows
    assert (cut / "search.jsonl").read_text().splitlines(keepends=True) == journal
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(sc.SecateurError, match=r"other options \(block_ratio 0.2 -> 0.3\)"):
        search(cut, block_ratio=0.3).run()


def test_scores_can_be_kept_for_what_is_left(tmp_path: Path) -> None:
    """Each iteration cuts what scored least at the start; norms of what is left would say the same here."""
    kept, anew = (
        search(tmp_path / name, keep_scores=keep, criterion="random")
        for name, keep in (("kept", True), ("anew", False))
    )
    rows = kept.run().rows
    scores, cuts = kept.folder.scores(), kept.folder.cuts()
    assert scores is not None and len(cuts) == len(rows) > 1
    left = {name: np.arange(len(of)) for name, of in scores.values.items()}
    for cut in cuts:
        for axis, indices in cut.items():
            left[axis] = left[axis][np.asarray(indices)]
    for axis, indices in left.items():
        gone = np.setdiff1d(np.arange(len(scores.values[axis])), indices)
        assert not len(gone) or scores.values[axis][gone].max() < scores.values[axis][indices].min()
    anew.run()
    assert anew.folder.scores() is None


def test_one_can_go_back_and_other_candidates_can_be_had(tmp_path: Path) -> None:
    found = search(tmp_path / "run")
    rows = list(found.run().rows)
    assert len(rows) > 1
    assert list(search(tmp_path / "run").run(from_iteration=1).rows) == rows
    with pytest.raises(sc.SecateurError, match="no iteration 9"):
        search(tmp_path / "run").run(from_iteration=9)
    events = [json.loads(line) for line in (tmp_path / "run" / "search.jsonl").read_text().splitlines()]
    tried = [event for event in events if event["event"] == "candidate" and event["iteration"] == 2]
    loser = next(event for event in reversed(tried) if event["block"] != rows[1]["block"])
    row, proof = search(tmp_path / "run").materialise(2, loser["block"], tmp_path / "loser")
    assert proof is not None and proof.ok
    assert row["accuracy"] == loser["accuracy"] and row["loss"] == loser["loss"]
    assert sc.load(tmp_path / "loser", lenet()[0])(torch.randn(1, *SHAPE)).shape == (1, 10)
    with pytest.raises(sc.SecateurError, match="did not try 'head'; it tried"):
        search(tmp_path / "run").materialise(2, "head", tmp_path / "none")


def test_a_poisoned_candidate_is_told_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secateur.search.netadapt import candidate

    real = candidate.evaluate

    def poisoned(model: nn.Module, *rest: Any, **options: Any) -> dict[str, float]:
        found = real(model, *rest, **options)
        return {**found, "loss": float("nan")} if model.get_parameter("conv1.weight").shape[0] < 6 else found

    monkeypatch.setattr(candidate, "evaluate", poisoned)
    found, told = search(tmp_path / "run"), list[str]()
    found.told = told.append
    result = found.run()
    assert any(" failed " in text and "conv1.out" in text and "its loss is not finite" in text for text in told)
    assert "conv1.out" not in [row["block"] for row in result.rows]


def test_where_all_that_stayed_fail_those_behind_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And where all fail the search says so, and tries them again when it is asked again."""
    real, poison = candidate.evaluate, {"after": 0}

    def poisoned(model: nn.Module, *rest: Any, **options: Any) -> dict[str, float]:
        poison["after"] -= 1
        found = real(model, *rest, **options)
        return {**found, "loss": float("nan")} if poison["after"] < 0 else found

    monkeypatch.setattr(candidate, "evaluate", poisoned)
    with pytest.raises(sc.SecateurError, match="every candidate failed: its loss is not finite"):
        search(tmp_path / "run", short_steps=0, winner_steps=2).run()
    healed = {event["block"] for event in _candidates(tmp_path / "run", stage=0)}
    poison["after"] = len(healed)  # all are healed again, and the winner's training goes wrong
    with pytest.raises(sc.SecateurError, match="every candidate failed"):
        search(tmp_path / "run", short_steps=0, winner_steps=2).run()
    assert {event["block"] for event in _candidates(tmp_path / "run", stage=1)} == healed
    poison["after"] = 10**6
    search(tmp_path / "run", short_steps=0, winner_steps=2).run()
    search(tmp_path / "whole", short_steps=0, winner_steps=2).run()
    tables = [(tmp_path / name / "search.csv").read_text() for name in ("run", "whole")]
    assert tables[0] == tables[1]


def _candidates(path: Path, stage: int) -> list[dict[str, Any]]:
    events = map(json.loads, (path / "search.jsonl").read_text().splitlines())
    return [event for event in events if event["event"] == "candidate" and event["stage"] == stage]


def test_a_search_goes_on_with_other_options_from_where_it_is_told_to(tmp_path: Path) -> None:
    first = search(tmp_path / "run").run()
    longer = search(tmp_path / "run", long_epochs=1, final_round_to=2)
    with pytest.raises(sc.SecateurError, match=r"final_round_to 1 -> 2, long_epochs 0 -> 1\)"):
        longer.run()
    with pytest.raises(sc.SecateurError, match="no iteration 9"):
        longer.run(from_iteration=9)
    done = len(first.rows)
    result = longer.run(from_iteration=done)
    assert list(result.rows)[:done] == list(first.rows)
    assert any(row["block"] == "rounding to 2" for row in result.rows)
    assert all(size % 4 == 0 for size in _widths(_going_on(tmp_path / "run", len(result.rows), final_round_to=4).model))
    again, lines = search(tmp_path / "run"), list[str]()

    def until_second(text: str) -> None:
        lines.append(text)
        if text.startswith("   2"):
            raise KeyboardInterrupt

    again.told = until_second
    with pytest.raises(KeyboardInterrupt):
        again.run(from_iteration=0)
    again.told = lines.append
    assert list(again.run(from_iteration=0).rows)[:done] == list(first.rows)
    assert sum(line.startswith("   1  chosen") for line in lines) == 1  # it was not sent back again
    other = replace(longer, data=replace(longer.data, labels=longer.data.labels.flip(0)))
    with pytest.raises(sc.SecateurError, match="a search with other data"):
        other.run(from_iteration=0)


def _going_on(path: Path, iteration: int, **options: Any) -> SearchResult:
    return search(path, **options).run(from_iteration=iteration)


def test_a_candidate_that_comes_out_otherwise_is_not_taken_for_the_one_that_was_seen(tmp_path: Path) -> None:
    fast = {"exhaustive": True, "short_training": TrainConfig(batch_size=32, learning_rate=2.0)}
    search(tmp_path / "run", exhaustive=True).run()
    rows = _going_on(tmp_path / "run", 1, **fast).rows
    tried = [event["block"] for event in _candidates(tmp_path / "run", stage=0) if event["iteration"] == 1]
    other = next(block for block in tried if block != rows[0]["block"])
    with pytest.raises(sc.SecateurError, match="comes out otherwise than in the search"):
        search(tmp_path / "run", **fast).materialise(1, other, tmp_path / "made")


def test_one_process_at_a_time_searches_in_a_folder(tmp_path: Path) -> None:
    found = search(tmp_path / "run")

    def meanwhile(_: str) -> None:
        with pytest.raises(sc.SecateurError, match="another process runs a search in"):
            search(tmp_path / "run").run()

    found.told = meanwhile
    found.run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "tailor"}, "did you mean: taylor"),
        ({"recover": "refti"}, "refti"),
        ({"round_to": "foo"}, "unknown rounding 'foo'"),
        ({"final_round_to": "auto"}, "does not apply here; give a number"),
    ],
)
def test_what_is_misspelt_is_told_before_anything_is_done(options: dict[str, Any], message: str) -> None:
    with pytest.raises(sc.SecateurError, match=message):
        SearchConfig(**options)


def test_events_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.jsonl"
    written = Records(path)
    written.begin({"seed": 3})
    written.begin({"seed": 1, "training": {"rate": 1}})  # nothing has happened yet
    written.append("chosen", iteration=1)
    assert len(list(Records(path).of("chosen", iteration=1))) == 1
    with pytest.raises(sc.SecateurError, match=r"other options \(seed 1 -> 2, training.rate 1 -> 3\)"):
        Records(path).begin({"seed": 2, "training": {"rate": 3}})
    with pytest.raises(sc.SecateurError, match="a search with other data"):
        Records(path).go_back_to(0, {"seed": 1, "data": "others"})
    path.write_text("no json\n")
    with pytest.raises(sc.SecateurError, match=r"line 1 is no event"):
        Records(path)


# Workers.


def _told(shared: Any, device: str, *, number: int) -> Any:
    """What a task does here: two of them go wrong."""
    if number == 1:
        raise ValueError("no")
    if number == 2:
        os._exit(7)
    return shared["base"] + number, device


def test_workers_survive_what_tasks_do() -> None:
    workers = open_workers("cpu:2")
    workers.share("base", 10)
    found = dict(workers.results([Task(str(number), _told, {"number": number}) for number in range(4)]))
    again = dict(workers.results([Task("3", _told, {"number": 3})]))
    workers.close()
    assert found[0] == (10, "cpu") and found[3] == again[0] == (13, "cpu")
    assert found[1] == Failure("ValueError: no", own=False)
    assert isinstance(found[2], Failure) and "died 3 times (exit code 7)" in found[2].reason


def test_what_cannot_be_sent_or_read_is_told() -> None:
    class Local(nn.Linear):
        """A class that no other process finds."""

    workers = open_workers("cpu:1")
    with pytest.raises(sc.SecateurError, match=r"the base cannot be sent to workers: .*Local"):
        workers.share("base", Local(2, 2))
    workers.share("base", _Unreadable())
    ((_, found),) = workers.results([Task("0", _told, {"number": 0})])
    workers.close()
    assert isinstance(found, Failure) and "a worker cannot read the base (ImportError: no such place)" in found.reason


class _Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return _no_such_place, ()


def _no_such_place() -> None:
    raise ImportError("no such place")


def _on_second_place(shared: Any, device: str) -> str:
    """What works on one worker alone: the second that has it."""
    if not Path(shared["mark"]).exists():
        Path(shared["mark"]).touch()
        raise RuntimeError("this device is broken")
    return device


def test_what_fails_on_one_worker_is_tried_on_another(tmp_path: Path) -> None:
    workers = open_workers("cpu:2")
    workers.share("mark", str(tmp_path / "mark"))
    assert dict(workers.results([Task("0", _on_second_place)])) == {0: "cpu"}
    workers.close()


def _summed(shared: Any, device: str, *, number: int) -> Any:
    """What a task does in each process of a team: the second of them goes wrong."""
    if number == 1 and distributed.get_rank() == 1:
        raise ValueError("no")
    if number == 2 and distributed.get_rank() == 1:
        os._exit(7)
    total = shared["base"] + distributed.get_rank()
    distributed.all_reduce(total)
    return int(total), distributed.get_world_size()


def test_processes_of_a_team_share_a_task_and_end_together() -> None:
    workers = open_workers("cpu:1x2")
    workers.share("base", torch.tensor(10))
    found = dict(workers.results([Task(str(number), _summed, {"number": number}) for number in range(4)]))
    workers.close()
    assert found[0] == found[3] == (21, 2)
    assert found[1] == Failure("ValueError: no", own=False)
    assert isinstance(found[2], Failure) and "died 3 times" in found[2].reason


def test_who_works_is_said_in_a_word() -> None:
    assert isinstance(open_workers(None), InProcess)
    for wrong in ("gpu", "cpu:0", "cpu:", "cpu:2x0", "cpu:x2", "0,x", "ray:0", "", "999"):
        with pytest.raises(sc.SecateurError, match="expected cpu:N"):
            open_workers(wrong)
