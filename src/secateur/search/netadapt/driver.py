"""NetAdapt: block by block, cut a little, heal and train a little, keep the best.

NetAdapt: Platform-Aware Neural Network Adaptation for Mobile Applications, 2018, algorithm 1. Deviations: candidates are
healed in closed form before they are trained; those that fall behind leave the race (successive halving); the images
that judge are never trained on.

A search is a list of events. Workers only make candidates, each a function of the network that is cut, the plan and the
seed; the driver only decides, when all candidates of a stage are there. So the result is the same with any number of
workers, and whatever was killed on the way: a search that is started again reads what happened, and goes on.
"""

from __future__ import annotations

import csv
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.allocate import needs_times
from secateur.allocate.knobs import Limits
from secateur.cost import LatencyModel, latency_model, network_costs
from secateur.data import ImageSet
from secateur.loading import load
from secateur.search.netadapt.candidate import BASE, MATERIAL, TEACHER, Judged, Material, judged, scored
from secateur.search.netadapt.config import SearchConfig
from secateur.search.netadapt.proposals import Goal, Proposal, costs_now, exceeded, goals_of, multiples, proposals
from secateur.search.netadapt.records import Records
from secateur.search.workers import Failure, InProcess, Task, Workers
from secateur.spec import Budget, Plan, RunRecord, Scores, SecateurError, Structure
from secateur.spec.plan import Indices
from secateur.store import read_run, remember_cut, save_folder
from secateur.structure import Traced, named_tensors, trace_program
from secateur.structure.capture import Inputs, private_copy
from secateur.structure.selectors import restrict
from secateur.surgery import shrink, verify_traced
from secateur.train import Distillation, evaluate, fit

JOURNAL, TABLE, ITERATIONS, CANDIDATES, RESULT = "search.jsonl", "search.csv", "iterations", "candidates", "result"
COLUMNS = ("N", "layer", "before", "after", "accuracy", "size", "macs")
PROPOSED, CANDIDATE, CHOSEN = "proposed", "candidate", "chosen"
EVERYTHING = "everything"
"""The block of a cut that rounds all of them."""
ENTRIES = 3
"""Stages of a race that is not exhaustive: after the healing, after half of the steps, and after all."""

Event = Mapping[str, Any]


@dataclass(frozen=True)
class SearchResult:
    """The network that was found, and what was seen on the way."""

    model: nn.Module
    before: Event
    after: Event
    rows: Sequence[Event]
    """What each iteration chose: `iteration`, `block`, `before`, `after`, `accuracy` and costs."""
    front: Sequence[Event]
    """Candidates that no other beats in both accuracy and multiply-accumulates, the largest first."""
    folder: Path
    verified: bool


@dataclass
class Search:
    """A search in a folder of its own, which it goes on in when it is there already."""

    model: nn.Module
    """The dense network, trained; it is not changed."""
    inputs: Inputs
    budgets: Sequence[Budget]
    data: ImageSet
    """Training images, of which some are held out to judge."""
    folder: Path
    config: SearchConfig = field(default_factory=SearchConfig)
    workers: Workers = field(default_factory=InProcess)
    device: str = "cpu"
    """Of the long training at the end."""
    source: Event = field(default_factory=dict[str, Any])
    """How to build the dense network again, for the manifests of folders."""
    told: Callable[[str], object] = lambda _: None

    def __post_init__(self) -> None:
        self.model = private_copy(self.model).eval().requires_grad_(True)
        train, held_out = self._split()
        self.material = Material(self.inputs, train, held_out, self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.records = Records(self.folder / JOURNAL, self._about())

    def run(self, *, from_iteration: int | None = None) -> SearchResult:
        """Search, round, train, and save the result in the folder.

        from_iteration: forget the iterations after this one, and go on from there. Raises BudgetError where the budget
        cannot be met, SecateurError where every candidate of an iteration fails.
        """
        if from_iteration is not None:
            self._go_back(from_iteration)
        self.workers.share(MATERIAL, self.material)
        if self.config.teacher:
            self.workers.share(TEACHER, self.model)
        number, base = self._latest()
        dense = self._looked_at(self.model)
        goals = goals_of(self.budgets, dense.structure, dense.latency)
        while True:
            look = self._looked_at(base)
            if not exceeded(goals, costs_now(goals, look.structure, look.latency)):
                break
            number += 1
            tried = self._proposed(number, look, lambda look=look: self._tried(look, goals, number))
            base = self._iteration(number, look, tried)
        if multiples_asked(self.config) and not self._is_rounded():
            rounded = multiples(look.structure, self._scores(look), self._limits(self.config.final_round_to))
            if rounded is not None:
                before, after = (sum(sizes.values()) for sizes in (look.structure.sizes, rounded.sizes))
                whole = [Proposal(EVERYTHING, before, after, rounded)]
                base = self._iteration(number + 1, look, self._proposed(number + 1, look, lambda: whole))
        return self._finished(base)

    # One iteration.

    def _looked_at(self, base: nn.Module) -> _Look:
        config = self.config
        traced = trace_program(base, self.inputs, blocks="blocks" in config.granularity)
        structure = restrict(
            traced.structure, base, ignore=config.ignore, targets=config.targets, granularity=config.granularity
        )
        timed = needs_times(list(self.budgets), config.round_to)
        return _Look(base, traced, structure, latency_model(base, self.inputs, traced=traced) if timed else None)

    def _tried(self, look: _Look, goals: Sequence[Goal], number: int) -> list[Proposal]:
        share = self.config.block_ratio * self.config.decay ** (number - 1)
        limits = self._limits(self.config.round_to)
        return proposals(look.structure, self._scores(look), goals, share, limits, look.latency)

    def _limits(self, round_to: int | str) -> Limits:
        return Limits(round_to, self.config.min_keep)

    def _scores(self, look: _Look) -> Scores:
        self.workers.share(BASE, look.base)
        ((_, found),) = self.workers.results([Task("scores", scored, {"structure": look.structure})])
        if isinstance(found, Failure):
            raise SecateurError(f"the network cannot be scored: {found.reason}")
        return found

    def _proposed(self, number: int, look: _Look, make: Callable[[], list[Proposal]]) -> list[Proposal]:
        """What the iteration tries: as written down, or made and written down."""
        for record in self.records.of(PROPOSED, iteration=number):
            return [
                Proposal(one["block"], one["before"], one["after"], Plan(look.structure, _indices(one["kept"])))
                for one in record["proposals"]
            ]
        made = make()
        rows = [
            {"block": one.block, "before": one.before, "after": one.after, "kept": one.plan.kept, **_costs(one.plan)}
            for one in made
        ]
        self.records.append(PROPOSED, iteration=number, proposals=rows)
        return made

    def _iteration(self, number: int, look: _Look, tried: Sequence[Proposal]) -> nn.Module:
        """The network that wins, saved and read again."""
        self.workers.share(BASE, look.base)
        (self.folder / CANDIDATES).mkdir(exist_ok=True)
        racing = list(range(len(tried)))
        stages = self._stages(len(tried))
        for stage, (steps, staying) in enumerate(stages):
            found = self._stage(number, stage, steps, racing, tried)
            if not found:
                reasons = {record["error"] for record in self.records.of(CANDIDATE, iteration=number) if "error" in record}
                raise SecateurError(f"iteration {number}: every candidate failed: {'; '.join(sorted(reasons)[:3])}")
            ranked = sorted(found, key=lambda place: (-found[place]["accuracy"], found[place]["loss"], place))
            racing = sorted(ranked[:staying])
        self._choose(number, look, tried[ranked[0]], found[ranked[0]], self._weights(number, len(stages) - 1, ranked[0]))
        return self._network(number)

    def _stages(self, count: int) -> list[tuple[int, int]]:
        """Of each stage the training in it, in steps, and how many stay in the race after it."""
        steps = self.config.short_steps
        if self.config.exhaustive or count == 1 or not steps:
            return [(steps, 1)]
        first, second = _half(count), _half(_half(count))
        return [(0, first), (ceil(steps / 2), second), (steps - ceil(steps / 2), 1)]

    def _stage(
        self, number: int, stage: int, steps: int, racing: Sequence[int], tried: Sequence[Proposal]
    ) -> dict[int, Event]:
        """What became of each candidate, by its place; those that failed are left out."""
        held = {record["place"]: record for record in self.records.of(CANDIDATE, iteration=number, stage=stage)}
        done = {
            place for place, record in held.items() if "error" in record or self._weights(number, stage, place).is_file()
        }
        missing = [place for place in racing if place not in done]
        tasks = [self._task(number, stage, steps, place, tried[place]) for place in missing]
        for index, result in self.workers.results(tasks):
            place = missing[index]
            held[place] = self._noted(number, stage, place, tried[place], result)
        return {place: held[place] for place in racing if "error" not in held[place]}

    def _task(self, number: int, stage: int, steps: int, place: int, proposal: Proposal) -> Task:
        weights = self._weights(number, stage - 1, place).read_bytes() if stage else None
        seed = (self.config.seed * 1009 + number) * ENTRIES + stage
        arguments = {"plan": proposal.plan, "weights": weights, "steps": steps, "seed": seed}
        return Task(f"iteration {number}: {proposal.block}", judged, arguments)

    def _noted(self, number: int, stage: int, place: int, proposal: Proposal, result: Judged | Failure) -> Event:
        about = {"iteration": number, "stage": stage, "place": place, "block": proposal.block}
        if isinstance(result, Failure):
            self.told(f"{number}: {proposal.block} failed: {result.reason}")
            values: dict[str, Any] = {**about, "error": result.reason}
        else:
            _write(self._weights(number, stage, place), result.weights)
            values = {**about, "accuracy": result.accuracy, "loss": result.loss}
            said = f"{proposal.before} -> {proposal.after}, accuracy {result.accuracy:.4f}"
            self.told(f"{number}: {proposal.block} {said}")
        self.records.append(CANDIDATE, **values)
        return values

    def _choose(self, number: int, look: _Look, winner: Proposal, found: Event, weights: Path) -> None:
        from safetensors.torch import load_file

        small = shrink(look.base, winner.plan)
        proof = verify_traced(look.base, small, winner.plan, self.inputs, look.traced)
        small.load_state_dict(load_file(weights))
        remember_cut(small, look.base, winner.plan)
        after = {**_costs(winner.plan), "accuracy": found["accuracy"], "loss": found["loss"]}
        run = RunRecord(
            "search",
            look.structure.model,
            network_costs(look.structure),
            after,
            proof,
            self._about(),
            environment={"torch": torch.__version__, "python": platform.python_version()},
        )
        save_folder(small, self._folder_of(number), run=run, source=self.source)
        row = {"block": winner.block, "before": winner.before, "after": winner.after, **after}
        self.records.append(CHOSEN, iteration=number, **row)
        self._write_table()
        shutil.rmtree(self.folder / CANDIDATES)
        self.told(
            f"{number}: {winner.block} it is, {winner.before} -> {winner.after}: accuracy {found['accuracy']:.4f}, "
            f"{after['macs']:,} multiply-accumulates"
        )

    # The end.

    def _finished(self, base: nn.Module) -> SearchResult:
        config = self.config
        if config.long_epochs:
            training = replace(config.long_training, epochs=config.long_epochs, seed=config.seed, device=self.device)
            teacher = Distillation(base, private_copy(self.model), alpha=config.teacher) if config.teacher else None
            fit(
                base,
                self.material.train,
                config=training,
                distillation=teacher,
                checkpoint_dir=self.folder / f"training-{len(self._rows())}",
            )
            base.eval().to("cpu")
        before, after = (
            {**network_costs(self._looked_at(model).structure), **evaluate(model, self.material.held_out)}
            for model in (self.model, base)
        )
        proofs = [read_run(self._folder_of(row["iteration"])).verification for row in self._rows()]
        worst = max((proof for proof in proofs if proof is not None), key=lambda proof: proof.relative_diff, default=None)
        model = f"{type(base).__module__}.{type(base).__qualname__}"
        run = RunRecord("search", model, before, after, worst, self._about())
        save_folder(base, self.folder / RESULT, run=run, source=self.source)
        return SearchResult(
            base, before, after, self._rows(), self.front(), self.folder / RESULT, worst is None or worst.ok
        )

    def front(self) -> list[Event]:
        """Candidates that no other beats in both accuracy and multiply-accumulates, the largest first."""
        seen = sorted(self._seen(), key=lambda row: (row["macs"], -row["accuracy"]))
        best: list[Event] = []
        for row in seen:
            if not best or row["accuracy"] > best[-1]["accuracy"]:
                best.append(row)
        return best[::-1]

    def _seen(self) -> Iterator[Event]:
        """Every candidate, as it was when it was judged last."""
        costs = {
            (record["iteration"], place): proposal
            for record in self.records.of(PROPOSED)
            for place, proposal in enumerate(record["proposals"])
        }
        last = {(record["iteration"], record["place"]): record for record in self.records.of(CANDIDATE)}
        for key, record in last.items():
            if "error" not in record:
                proposal = costs[key]
                yield {key: proposal[key] for key in ("before", "after", *_COSTS)} | dict(record)

    # What is on the disk.

    def _split(self) -> tuple[ImageSet, ImageSet]:
        """Images to train on and to judge by."""
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(self.config.seed))
        count = max(1, round(self.config.held_out * len(self.data)))
        judging, rest = order[:count].sort().values, order[count:].sort().values
        return tuple(  # type: ignore[return-value]
            replace(self.data, images=self.data.images[part], labels=self.data.labels[part]) for part in (rest, judging)
        )

    def _about(self) -> dict[str, Any]:
        """What the events depend on."""
        config = {key: _plain(value) for key, value in asdict(self.config).items()}
        budgets = {budget.unit: budget.value for budget in self.budgets}
        return {**config, "budget": budgets, "images": len(self.data), "weights": _digest(self.model)}

    def _go_back(self, iteration: int) -> None:
        done = len(self._rows())
        if not 0 <= iteration <= done:
            raise SecateurError(f"there is no iteration {iteration} to go back to in {self.folder}; it has {done}")
        self.records.go_back_to(iteration)
        for later in range(iteration + 1, done + 1):
            shutil.rmtree(self._folder_of(later), ignore_errors=True)
        shutil.rmtree(self.folder / CANDIDATES, ignore_errors=True)
        self._write_table()

    def _latest(self) -> tuple[int, nn.Module]:
        number = max((row["iteration"] for row in self._rows()), default=0)
        return number, self._network(number)

    def _network(self, iteration: int) -> nn.Module:
        """What the iteration ended with; the dense one before the first."""
        fresh = private_copy(self.model)
        return load(self._folder_of(iteration), fresh).requires_grad_(True) if iteration else fresh

    def _rows(self) -> list[Event]:
        return list(self.records.of(CHOSEN))

    def _is_rounded(self) -> bool:
        return any(row["block"] == EVERYTHING for row in self._rows())

    def _folder_of(self, iteration: int) -> Path:
        return self.folder / ITERATIONS / f"{iteration:03d}"

    def _weights(self, number: int, stage: int, place: int) -> Path:
        return self.folder / CANDIDATES / f"{number:03d}-{stage}-{place:03d}.safetensors"

    def _write_table(self) -> None:
        temporary = self.folder / f".{TABLE}.tmp"
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in self._rows():
                keys = ("iteration", "block", "before", "after", "accuracy", "size_bytes", "macs")
                writer.writerow([row[key] for key in keys])
        os.replace(temporary, self.folder / TABLE)


@dataclass(frozen=True)
class _Look:
    """A network, and what can be cut in it."""

    base: nn.Module
    traced: Traced
    structure: Structure
    latency: LatencyModel | None


_COSTS = ("macs", "param_count", "size_bytes")


def _costs(plan: Plan) -> dict[str, Any]:
    found = network_costs(plan.structure, plan.sizes)
    return {key: found[key] for key in _COSTS}


def multiples_asked(config: SearchConfig) -> bool:
    """Whether sizes are rounded after the search."""
    return config.final_round_to not in (1, "1", config.round_to)


def _half(count: int) -> int:
    """Half of the race, an even number where it can be, so that two workers are busy to the end."""
    half = ceil(count / 2)
    return min(count, half + half % 2)


def _indices(kept: Mapping[str, Any]) -> dict[str, Indices]:
    return {
        axis: tuple(tuple(row) if isinstance(row, list) else row for row in indices) for axis, indices in kept.items()
    }


def _plain(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.__name__ if isinstance(value, type) else value


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _digest(model: nn.Module) -> str:
    digest = sha256()
    for found in named_tensors(model):
        digest.update(found.name.encode())
        digest.update(found.tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
