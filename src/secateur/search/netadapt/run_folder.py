"""The folder of a search: what happened, what was chosen, and the networks."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes
from torch import nn

from secateur.loading import load
from secateur.search.netadapt.proposals import Goal, Proposal
from secateur.search.netadapt.records import Records
from secateur.spec import Plan, Scores, SecateurError, Structure
from secateur.spec.files import locked, write_whole
from secateur.spec.front import Event, cost_of_unit, front_of
from secateur.spec.plan import Indices

JOURNAL, TABLE, SCORES, LOCK = "search.jsonl", "search.csv", "scores.safetensors", ".lock"
ITERATIONS, CANDIDATES, TRAINING, RESULT = "iterations", "candidates", "training", "result"
COLUMNS = {
    "N": "iteration",
    "layer": "block",
    "before": "before",
    "after": "after",
    "accuracy": "accuracy",
    "size": "size_bytes",
    "macs": "macs",
}
"""Of the table, and what they are called in events."""
GOALS, PROPOSED, CANDIDATE, CHOSEN, REACHED = "goals", "proposed", "candidate", "chosen", "reached"
ENDED = "ended"


class RunFolder:
    """What a search has on the disk."""

    def __init__(self, path: Path) -> None:
        """To be read; nothing is made or changed, and another process may be writing."""
        self.path = path
        self._records = Records(path / JOURNAL)

    @contextmanager
    def opened(self, about: Mapping[str, Any], from_iteration: int | None) -> Iterator[None]:
        """To be written, by one process at a time. about: what the search depends on. from_iteration: go on from there,
        once: a search that was killed after that, before it ended, is not sent back again.

        Raises StoreError where the folder holds another search, or another process is at it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / LOCK, "search"):
            self._records = Records(self.path / JOURNAL)
            if from_iteration is not None and not self._went_on_from(from_iteration, about):
                self._go_back_to(from_iteration, about)
            self._records.begin(about)
            self._tidy()
            yield

    def demand_same(self, about: Mapping[str, Any]) -> None:
        """Raise StoreError where the folder holds another search."""
        self._records.demand_same(about)

    # What happened.

    def goals(self) -> tuple[Goal, ...] | None:
        """What the budgets mean; None where the search has not begun."""
        for record in self._records.of(GOALS):
            return tuple(Goal(**goal) for goal in record["goals"])
        return None

    def note_goals(self, goals: Sequence[Goal]) -> None:
        self._records.append(GOALS, goals=[asdict(goal) for goal in goals])

    def is_reached(self) -> bool:
        """Whether the budgets are met."""
        return any(self._records.of(REACHED))

    def note_reached(self, iteration: int) -> None:
        """The iteration by which the budgets are met."""
        self._records.append(REACHED, iteration=iteration)

    def proposals(self, iteration: int, structure: Structure) -> list[Proposal] | None:
        """What the iteration tries; None where it has not begun."""
        for record in self._records.of(PROPOSED, iteration=iteration):
            return [_proposal(one, structure) for one in record["proposals"]]
        return None

    def note_proposals(self, iteration: int, made: Sequence[Proposal]) -> None:
        rows = [
            {"block": one.block, "before": one.before, "after": one.after, "kept": one.plan.kept, **one.costs}
            for one in made
        ]
        self._records.append(PROPOSED, iteration=iteration, proposals=rows)

    def noted(self, iteration: int, stage: int) -> dict[int, Event]:
        """By its place what became of each candidate in a stage of the race."""
        return {record["place"]: record for record in self._records.of(CANDIDATE, iteration=iteration, stage=stage)}

    def candidates(self, iteration: int, stage: int) -> dict[int, Event]:
        """Those of them that the race can go on with: they failed, or their weights are there."""
        return {
            place: record
            for place, record in self.noted(iteration, stage).items()
            if "error" in record or self._weights(iteration, stage, place).is_file()
        }

    def note_candidate(self, record: Event, weights: bytes | None) -> None:
        """weights: None of a candidate that failed."""
        if weights is not None:
            (self.path / CANDIDATES).mkdir(exist_ok=True)
            path = self._weights(record["iteration"], record["stage"], record["place"])
            write_whole(path, weights, on_disk=True)
        self._records.append(CANDIDATE, **record)

    def weights(self, record: Event) -> bytes:
        """Of a candidate, after a stage."""
        return self._weights(record["iteration"], record["stage"], record["place"]).read_bytes()

    def chosen(self) -> list[Event]:
        """What each iteration chose, in order."""
        return list(self._records.of(CHOSEN))

    def note_chosen(self, record: Event) -> None:
        """The network is saved by now; the other candidates are let go."""
        self._records.append(CHOSEN, **record)
        self._tidy()

    def cuts(self) -> list[Mapping[str, Indices]]:
        """What each iteration has kept of the axes that it cut, in order."""
        proposed = self._records.of(PROPOSED)
        tried = {(record["iteration"], one["block"]): one for record in proposed for one in record["proposals"]}
        return [_kept(tried[row["iteration"], row["block"]]) for row in self.chosen()]

    def scores(self) -> Scores | None:
        """Of the dense network, where they were noted."""
        path = self.path / SCORES
        if not path.is_file():
            return None
        with safe_open(path, "np") as file:
            about = file.metadata()
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Scores(about["criterion"], values, seed=int(about["seed"]))

    def note_scores(self, scores: Scores) -> None:
        about = {"criterion": scores.criterion, "seed": str(scores.seed)}
        values = {name: np.ascontiguousarray(of) for name, of in scores.values.items()}
        write_whole(self.path / SCORES, to_bytes(values, about))

    def front(self) -> list[Event]:
        """Candidates that no other beats in both accuracy and the cost of `front_by`, the largest first."""
        return front_of(self._seen(), self.front_by())

    def front_by(self) -> str:
        """What the first budget limits."""
        return cost_of_unit(goals[0].unit) if (goals := self.goals()) else "macs"

    def _seen(self) -> Iterator[Event]:
        """Every candidate that did not fail, as it was when it was judged last."""
        proposed = {
            (record["iteration"], place): proposal
            for record in self._records.of(PROPOSED)
            for place, proposal in enumerate(record["proposals"])
        }
        last = {(record["iteration"], record["place"]): record for record in self._records.of(CANDIDATE)}
        for key, record in last.items():
            if "error" not in record:
                yield {name: value for name, value in proposed[key].items() if name != "kept"} | dict(record)

    def note_ended(self, iterations: int) -> None:
        """The result is saved."""
        if not any(self._records.of(ENDED)):
            self._records.append(ENDED, iteration=iterations)

    # Networks.

    def of_iteration(self, iteration: int) -> Path:
        """Where the network is that the iteration chose."""
        return self.path / ITERATIONS / f"{iteration:03d}"

    @property
    def result(self) -> Path:
        """Where the network is that the search ended with."""
        return self.path / RESULT

    def network(self, iteration: int, fresh: nn.Module) -> nn.Module:
        """What the iteration chose; before the first the fresh instance itself."""
        return load(self.of_iteration(iteration), fresh).requires_grad_(True) if iteration else fresh

    def training(self, iterations: int) -> Path:
        """Where the long training of what so many iterations led to keeps its state."""
        return self.path / f"{TRAINING}-{iterations}"

    def _went_on_from(self, iteration: int, about: Mapping[str, Any]) -> bool:
        same = self._records.from_iteration == iteration and not self._records.changes(about)
        return same and not any(self._records.of(ENDED))

    def _go_back_to(self, iteration: int, about: Mapping[str, Any]) -> None:
        """Forget the iterations after this one, and what other options would have made otherwise."""
        done = len(self.chosen())
        if not 0 <= iteration <= done:
            raise SecateurError(f"there is no iteration {iteration} to go back to in {self.path}; it has {done}")
        if not self._records.about:
            return
        self._records.demand_fixed(about)
        # First what can be made again, so that a kill leaves nothing that was made with other options.
        for trained in self.path.glob(f"{TRAINING}-*"):
            shutil.rmtree(trained)
        (self.path / SCORES).unlink(missing_ok=True)
        same_goals = all(self._records.about.get(key) == about.get(key) for key in ("budget", "timed_on"))
        self._records.go_back_to(iteration, about, without=(ENDED,) if same_goals else (ENDED, GOALS, REACHED))
        for later in range(iteration + 1, done + 1):
            shutil.rmtree(self.of_iteration(later), ignore_errors=True)

    def _tidy(self) -> None:
        """The table as the journal has it, and no weights of candidates that are out of the race."""
        self._write_table()
        chosen = len(self.chosen())
        for candidate in (self.path / CANDIDATES).glob("*"):
            if not candidate.name.startswith(f"{chosen + 1:03d}-"):
                candidate.unlink()

    def _weights(self, iteration: int, stage: int, place: int) -> Path:
        return self.path / CANDIDATES / f"{iteration:03d}-{stage}-{place:03d}.safetensors"

    def _write_table(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        writer.writerows([row[key] for key in COLUMNS.values()] for row in self.chosen())
        write_whole(self.path / TABLE, text.getvalue())


def _proposal(one: Event, structure: Structure) -> Proposal:
    about = {key: value for key, value in one.items() if key not in ("block", "before", "after", "kept")}
    return Proposal(one["block"], one["before"], one["after"], Plan(structure, _kept(one)), about)


def _kept(one: Event) -> dict[str, Indices]:
    return {
        axis: tuple(tuple(row) if isinstance(row, list) else row for row in indices)
        for axis, indices in one["kept"].items()
    }
