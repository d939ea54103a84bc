"""The folder of a search: what happened, what was chosen, and the networks."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save as to_bytes
from torch import nn

from secateur.cost import network_costs
from secateur.loading import load
from secateur.search.netadapt.proposals import Goal, Proposal
from secateur.search.netadapt.records import Records
from secateur.spec import Plan, Scores, SecateurError, Structure
from secateur.spec.files import write_whole
from secateur.spec.plan import Indices

JOURNAL, TABLE, SCORES = "search.jsonl", "search.csv", "scores.safetensors"
ITERATIONS, CANDIDATES, RESULT = "iterations", "candidates", "result"
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
COSTS = ("macs", "param_count", "size_bytes")

Event = Mapping[str, Any]


class RunFolder:
    """What a search has on the disk."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """about: what the search depends on; StoreError where the folder holds another."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._records = Records(path / JOURNAL, about)

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
            {"block": one.block, "before": one.before, "after": one.after, "kept": one.plan.kept, **costs_of(one.plan)}
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
            write_whole(path, weights)
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
        self._write_table()
        shutil.rmtree(self.path / CANDIDATES, ignore_errors=True)

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
        """Candidates that no other beats in both accuracy and multiply-accumulates, the largest first."""
        best: list[Event] = []
        for row in sorted(self._seen(), key=lambda row: (row["macs"], -row["accuracy"])):
            if not best or row["accuracy"] > best[-1]["accuracy"]:
                best.append(row)
        return best[::-1]

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
                yield {name: proposed[key][name] for name in ("before", "after", *COSTS)} | dict(record)

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

    def go_back_to(self, iteration: int) -> None:
        """Forget the iterations after this one."""
        done = len(self.chosen())
        if not 0 <= iteration <= done:
            raise SecateurError(f"there is no iteration {iteration} to go back to in {self.path}; it has {done}")
        self._records.go_back_to(iteration)
        for later in range(iteration + 1, done + 1):
            shutil.rmtree(self.of_iteration(later), ignore_errors=True)
        shutil.rmtree(self.path / CANDIDATES, ignore_errors=True)
        self._write_table()

    def _weights(self, iteration: int, stage: int, place: int) -> Path:
        return self.path / CANDIDATES / f"{iteration:03d}-{stage}-{place:03d}.safetensors"

    def _write_table(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        writer.writerows([row[key] for key in COLUMNS.values()] for row in self.chosen())
        write_whole(self.path / TABLE, text.getvalue())


def costs_of(plan: Plan) -> dict[str, Any]:
    """What the network costs that the plan makes."""
    found = network_costs(plan.structure, plan.sizes)
    return {key: found[key] for key in COSTS}


def _proposal(one: Event, structure: Structure) -> Proposal:
    return Proposal(one["block"], one["before"], one["after"], Plan(structure, _kept(one)))


def _kept(one: Event) -> dict[str, Indices]:
    return {
        axis: tuple(tuple(row) if isinstance(row, list) else row for row in indices)
        for axis, indices in one["kept"].items()
    }
