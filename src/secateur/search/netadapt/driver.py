"""NetAdapt: block by block, cut a little, heal and train a little, keep the best.

NetAdapt: Platform-Aware Neural Network Adaptation for Mobile Applications, 2018, algorithm 1. Deviations: candidates
are healed in closed form before they are trained; those that fall behind leave the race; the images that judge are
never trained on.

A search is a list of events. Workers only make candidates, each a function of the network that is cut, the plan and the
seed; the driver only decides, when all candidates of a stage are there. So the result is the same with any number of
workers, and whatever was killed on the way: a search that is started again reads what happened, and goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load as from_bytes
from torch import nn

from secateur.allocate import needs_times
from secateur.allocate.knobs import Limits
from secateur.cost import LatencyModel, latency_model
from secateur.data import ImageSet
from secateur.search.digest import digest_of, digest_of_images
from secateur.search.netadapt import live_table
from secateur.search.netadapt.candidate import BASE, MATERIAL, PLANS, TEACHER, Material, scored, taught_by
from secateur.search.netadapt.config import SearchConfig
from secateur.search.netadapt.kept_scores import left_of
from secateur.search.netadapt.proposals import (
    Goal,
    Proposal,
    costs_now,
    costs_of,
    demand_units,
    exceeded,
    goals_of,
    multiples,
    proposals,
)
from secateur.search.netadapt.race import Race
from secateur.search.netadapt.run_folder import Event, RunFolder
from secateur.search.workers import Failure, InProcess, Task, Workers
from secateur.spec import Budget, Plan, RunRecord, Scores, SecateurError, Structure, Verification
from secateur.spec.files import write_whole
from secateur.store import environment, history_of, read_run, remember_cut, save_folder
from secateur.structure import Traced, clone, trace_program
from secateur.structure.capture import Inputs, inputs_on, private_copy
from secateur.structure.selectors import restrict
from secateur.surgery import shrink, verify_traced
from secateur.train import evaluate, fit

ROUNDING = "rounding to"
"""The name of the cut that rounds all blocks, but for what to."""
PLACE = ("block", "before", "after")
"""What a row says beside accuracy and costs."""
JUDGED = "accuracy and loss are of the training images that were held out, by which candidates were chosen"


@dataclass(frozen=True)
class SearchResult:
    """The network that was found, and what was seen on the way."""

    model: nn.Module
    before: Event
    after: Event
    rows: Sequence[Event]
    """What each iteration chose: `iteration`, `block`, `before`, `after`, `accuracy` and costs."""
    front: Sequence[Event]
    """Candidates that no other beats in both accuracy and the cost of `front_by`, the largest first."""
    front_by: str
    """What the first budget limits: `macs`, `latency_ms`, ..."""
    verification: Verification | None
    """The worst of all iterations."""
    folder: Path
    """Where the network is saved."""


@dataclass(frozen=True)
class _Look:
    """A network, and what can be cut in it."""

    base: nn.Module
    traced: Traced
    structure: Structure
    latency: LatencyModel | None

    def costs(self) -> Event:
        return costs_of(Plan(self.structure, {}), self.latency)


@dataclass
class Search:
    """A search in a folder of its own, which it goes on in when it is there already."""

    model: nn.Module
    """The dense network, trained; it is not changed."""
    inputs: Inputs
    budgets: Sequence[Budget]
    data: ImageSet
    """Training images, of which some are held out to judge."""
    path: Path
    config: SearchConfig = field(default_factory=SearchConfig)
    workers: Workers = field(default_factory=InProcess)
    device: str = "cpu"
    """Of the long training at the end, and of times that are measured."""
    source: Event = field(default_factory=dict[str, Any])
    """How to build the dense network again, for the manifests of folders."""
    told: Callable[[str], object] = lambda _: None
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Files to lie in the folder, by name."""

    def __post_init__(self) -> None:
        demand_units(self.budgets)
        self.model = clone(self.model).eval().requires_grad_(True)
        self.material = Material(self.inputs, *self._split(), self.config)
        self.asked = self._about()
        self.folder = RunFolder(self.path)

    def run(self, *, from_iteration: int | None = None) -> SearchResult:
        """Search, round, train, and save the result in the folder.

        from_iteration: forget the iterations after this one, and go on from there, also with other options than before.
        Raises BudgetError where the budget cannot be met, SecateurError where every candidate of an iteration fails,
        StoreError where the folder holds another search, or another process is at it.
        """
        with self.folder.opened(self.asked, from_iteration):
            for name, text in self.texts.items():
                write_whole(self.path / name, text)
            self._share()
            self.told(live_table.head(timed=self._is_timed))
            look = self._searched()
            return self._finished(self._rounded(look))

    def materialise(self, iteration: int, block: str | None, out: Path) -> tuple[Event, Verification | None]:
        """Save what an iteration chose, or its candidate that cuts this block, which is made again as far as it got;
        returns its row, and the proof of its cut.

        Raises SecateurError for what was not tried, StoreError where the folder holds another search.
        """
        self.folder.demand_same(self.asked)
        rows = {row["iteration"]: row for row in self.folder.chosen()}
        if iteration not in rows:
            raise SecateurError(f"{self.path} has no iteration {iteration}; it has {len(rows)}")
        if block in (None, rows[iteration]["block"]):
            row, model = rows[iteration], self._network(iteration)
            proof = read_run(self.folder.of_iteration(iteration)).verification
        else:
            row, model, proof = self._made_again(iteration, block)
        before = self._looked_at(self.model).costs()
        after = {key: value for key, value in row.items() if key not in ("event", "iteration", *PLACE)}
        self._save(model, out, before, after, proof)
        return row, proof

    def _made_again(self, iteration: int, block: str | None) -> tuple[Event, nn.Module, Verification]:
        look = self._looked_at(self._network(iteration - 1))
        tried = self.folder.proposals(iteration, look.structure) or []
        names = [proposal.block for proposal in tried]
        if block not in names:
            raise SecateurError(f"iteration {iteration} did not try {block!r}; it tried {', '.join(names)}")
        self._share()
        self._share_base(look.base)
        race = Race(iteration, tried, self.config, self.folder, self.workers, self.told)
        found = race.again(names.index(block))
        proposal = tried[names.index(block)]
        row = {"iteration": iteration, "block": block, "before": proposal.before, "after": proposal.after}
        row |= {**proposal.costs, "accuracy": found.accuracy, "loss": found.loss}
        return row, *self._made(look, proposal, found.weights)

    def _share(self) -> None:
        """Let the workers have what is the same for all iterations."""
        self.workers.share(MATERIAL, self.material)
        if self.config.teacher:
            self.workers.share(TEACHER, self.model)

    def _share_base(self, base: nn.Module) -> None:
        """The network that tasks from now on are about."""
        self.workers.share(BASE, base)
        self.workers.share(PLANS, history_of(base))

    def _searched(self) -> _Look:
        """The first network that is within the budgets."""
        goals, number = self._goals(), len(self.folder.chosen())
        look = self._looked_at(self._network(number))
        while not self.folder.is_reached():
            tried = self.folder.proposals(number + 1, look.structure)
            if tried is None and not exceeded(goals, costs_now(goals, look.structure, look.latency)):
                self.folder.note_reached(number)
                break
            number += 1
            self._share_base(look.base)
            if tried is None:
                tried = self._tried(look, goals, number)
                self.folder.note_proposals(number, tried)
            look = self._looked_at(self._iteration(number, look, tried))
        return look

    def _goals(self) -> tuple[Goal, ...]:
        """As written down: what is measured in time would be another the next time."""
        goals = self.folder.goals()
        if goals is None:
            dense = self._looked_at(self.model)
            goals = goals_of(self.budgets, dense.structure, dense.latency)
            self.folder.note_goals(goals)
        return goals

    def _rounded(self, look: _Look) -> nn.Module:
        """With sizes that are multiples, where they are not and are asked for."""
        chosen, name = self.folder.chosen(), f"{ROUNDING} {self.config.final_round_to}"
        if self.config.final_round_to in (1, "1") or (chosen and chosen[-1]["block"] == name):
            return look.base
        number = len(chosen) + 1
        self._share_base(look.base)
        tried = self.folder.proposals(number, look.structure)
        if tried is None:
            plan = multiples(look.structure, self._scores(look), self._limits(self.config.final_round_to))
            if plan is None:
                return look.base
            tried = [Proposal.of_all(name, plan, look.latency)]
            self.folder.note_proposals(number, tried)
        return self._iteration(number, look, tried)

    # One iteration.

    def _looked_at(self, base: nn.Module) -> _Look:
        config = self.config
        traced = trace_program(base, self.inputs, blocks="blocks" in config.granularity)
        structure = restrict(
            traced.structure, base, ignore=config.ignore, targets=config.targets, granularity=config.granularity
        )
        return _Look(base, traced, structure, self._latency(base, traced) if self._is_timed else None)

    @property
    def _is_timed(self) -> bool:
        """Whether times are to be measured, of the budgets or of the sizes that are fast."""
        return needs_times(list(self.budgets), self.config.round_to)

    def _latency(self, base: nn.Module, traced: Traced) -> LatencyModel:
        """On the device of the long training, which is where the user wants it to be fast."""
        if self.device == "cpu":
            return latency_model(base, self.inputs, traced=traced)
        return latency_model(private_copy(base).to(self.device), inputs_on(self.inputs, self.device))

    def _tried(self, look: _Look, goals: Sequence[Goal], number: int) -> list[Proposal]:
        share = self.config.block_ratio * self.config.decay ** (number - 1)
        limits = self._limits(self.config.round_to)
        made = proposals(look.structure, self._scores(look), goals, share, limits, look.latency, self.config.allocator)
        if look.latency is not None:
            look.latency.table.save()
        return made

    def _limits(self, round_to: int | str) -> Limits:
        return Limits(round_to, self.config.min_keep)

    def _scores(self, look: _Look) -> Scores:
        left = None
        if self.config.keep_scores:
            left = left_of(self._scores_of_dense(look), self.folder.cuts(), look.structure)
        return self._scored(look) if left is None else left

    def _scores_of_dense(self, look: _Look) -> Scores:
        """Noted, or found now, while the look waits."""
        found = self.folder.scores()
        if found is None:
            dense = self._looked_at(self._network(0))
            self._share_base(dense.base)
            found = self._scored(dense)
            self._share_base(look.base)
            self.folder.note_scores(found)
        return found

    def _scored(self, look: _Look) -> Scores:
        ((_, found),) = self.workers.results([Task("scores", scored, {"structure": look.structure})])
        if isinstance(found, Failure):
            raise SecateurError(f"the network cannot be scored: {found.reason}")
        return found

    def _iteration(self, number: int, look: _Look, tried: Sequence[Proposal]) -> nn.Module:
        """The network that wins the race, proved, saved and read again."""
        winner, found, weights = Race(number, tried, self.config, self.folder, self.workers, self.told).winner()
        small, proof = self._made(look, winner, weights)
        after = {**winner.costs, "accuracy": found["accuracy"], "loss": found["loss"]}
        self._save(small, self.folder.of_iteration(number), look.costs(), after, proof)
        row = {"block": winner.block, "before": winner.before, "after": winner.after, **after}
        self.folder.note_chosen({"iteration": number, **row})
        self.told(live_table.row(number, live_table.CHOSEN, winner, found["accuracy"]))
        return self._network(number)

    def _made(self, look: _Look, proposal: Proposal, weights: bytes) -> tuple[nn.Module, Verification]:
        """The network, and the proof of its cut."""
        small = shrink(look.base, proposal.plan)
        proof = verify_traced(look.base, small, proposal.plan, self.inputs, look.traced)
        small.load_state_dict(from_bytes(weights))
        remember_cut(small, look.base, proposal.plan)
        return small.eval(), proof

    # The end.

    def _finished(self, base: nn.Module) -> SearchResult:
        rows = self.folder.chosen()
        if self.config.long_epochs:
            self._train_(base, self.folder.training(len(rows)))
        before, after = self._metrics(self.model), self._metrics(base)
        runs = [read_run(self.folder.of_iteration(row["iteration"])) for row in rows]
        proofs = [run.verification for run in runs if run.verification is not None]
        worst = max(proofs, key=lambda proof: proof.relative_diff, default=None)
        self._save(base, self.folder.result, before, after, worst)
        self.folder.note_ended(len(rows))
        front, by = self.folder.front(), self.folder.front_by()
        return SearchResult(base, before, after, rows, front, by, worst, self.folder.result)

    def _metrics(self, model: nn.Module) -> Event:
        return {**self._looked_at(model).costs(), **evaluate(model, self.material.held_out)}

    def _train_(self, base: nn.Module, checkpoint_dir: Path) -> None:
        config = self.config
        training = replace(config.long_training, epochs=config.long_epochs, seed=config.seed, device=self.device)
        with taught_by(clone(self.model) if config.teacher else None, base, self.inputs, config) as teacher:
            fit(
                base,
                self.material.train,
                config=training,
                distillation=teacher,
                validation=self.material.held_out if training.early_stopping else None,
                checkpoint_dir=checkpoint_dir,
            )
        base.eval().to("cpu")

    def _save(self, model: nn.Module, directory: Path, before: Event, after: Event, proof: Verification | None) -> None:
        name = f"{type(model).__module__}.{type(model).__qualname__}"
        run = RunRecord("search", name, before, after, proof, self.asked, environment=environment(), notes=(JUDGED,))
        save_folder(model, directory, run=run, source=self.source)

    # What it depends on.

    def _network(self, iteration: int) -> nn.Module:
        return self.folder.network(iteration, clone(self.model))

    def _split(self) -> tuple[ImageSet, ImageSet]:
        """Images to train on and to judge by."""
        return self.data.split(max(1, round(self.config.held_out * len(self.data))), self.config.seed)

    def _about(self) -> dict[str, Any]:
        budgets = {budget.unit: budget.value for budget in self.budgets}
        asked = {**asdict(self.config), "budget": budgets}
        if self._is_timed:
            asked["timed_on"] = self.device
        asked |= {"data": digest_of_images(self.data), "weights": digest_of(self.model)}
        return {key: _plain(value) for key, value in asked.items()}


def _plain(value: Any) -> Any:
    """As JSON can say it."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.__name__ if isinstance(value, type) else value
