"""The race of an iteration's candidates: all are healed, and those that are ahead are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, isclose
from typing import Any

from secateur.search.netadapt import live_table
from secateur.search.netadapt.candidate import Judged, judged
from secateur.search.netadapt.config import SearchConfig
from secateur.search.netadapt.proposals import Proposal
from secateur.search.netadapt.run_folder import Event, RunFolder
from secateur.search.workers import Failure, Task, Workers
from secateur.spec import SecateurError

SAME = 1e-3
"""By how much the loss of a candidate that is made again may differ, as other processors round otherwise."""
STAGES = 4
"""At most: after the healing, after half of the steps, after all of them, and after those of the winner."""


@dataclass(frozen=True)
class Race:
    """Successive halving; who stays is decided when all of a stage are there, so the order does not matter in which
    they come."""

    iteration: int
    tried: Sequence[Proposal]
    config: SearchConfig
    folder: RunFolder
    workers: Workers
    told: Callable[[str], object]

    def winner(self) -> tuple[Proposal, Event, bytes]:
        """The best at the end, what was noted of it, and its weights. Where all that stayed fail, those behind them
        take their places.

        Raises SecateurError where none is left.
        """
        ahead = list(range(len(self.tried)))
        racing, found = len(ahead), dict[int, Event]()
        for stage, (steps, staying) in enumerate(self._stages()):
            before, found, errors = found, dict[int, Event](), list[str]()
            while not found:
                if not ahead:
                    raise SecateurError(
                        f"iteration {self.iteration}: every candidate failed: {'; '.join(sorted(set(errors))[:3])}. "
                        "When the reason is gone, the same command tries them again"
                    )
                raced, ahead = ahead[:racing], ahead[racing:]
                found, failed = self._stage(stage, steps, raced, before)
                errors += failed
            ahead = sorted(found, key=lambda place: (*self._behind(found[place]), place))
            racing = staying
        place = ahead[0]
        return self.tried[place], found[place], self.folder.weights(found[place])

    def again(self, place: int) -> Judged:
        """A candidate once more, as far as it got."""
        steps = [steps for steps, _ in self._stages()]
        known = [stage for stage in range(len(steps)) if place in self.folder.noted(self.iteration, stage)]
        found: Judged | None = None
        for stage in known:
            task = self._task(stage, steps[stage], place, None if found is None else found.weights)
            ((_, result),) = self.workers.results([task])
            if isinstance(result, Failure):
                raise SecateurError(f"iteration {self.iteration}: {self.tried[place].block} fails: {result.reason}")
            found = result
        assert found is not None
        noted = self.folder.noted(self.iteration, known[-1])[place]["loss"]
        if not isclose(found.loss, noted, rel_tol=SAME):
            raise SecateurError(
                f"iteration {self.iteration}: {self.tried[place].block} comes out otherwise than in the search (loss "
                f"{found.loss:.4g}, then {noted:.4g}): it was made with other options, or by other workers"
            )
        return found

    def _behind(self, judged: Event) -> tuple[float, float]:
        """The less the better."""
        loss, missed = judged["loss"], -judged["accuracy"]
        return (loss, missed) if self.config.judge_by == "loss" else (missed, loss)

    def _seed(self, stage: int) -> int:
        return (self.config.seed * 1009 + self.iteration) * STAGES + stage

    def _stages(self) -> list[tuple[int, int]]:
        """Of each stage the training in it, in steps, and how many stay in the race after it."""
        count, steps = len(self.tried), self.config.short_steps
        if self.config.exhaustive or count == 1 or not steps:
            stages = [(steps, 1)]
        else:
            stages = [(0, _half(count)), (ceil(steps / 2), _half(_half(count))), (steps - ceil(steps / 2), 1)]
        return [*stages, (self.config.winner_steps, 1)] if self.config.winner_steps else stages

    def _stage(
        self, stage: int, steps: int, racing: Sequence[int], before: dict[int, Event]
    ) -> tuple[dict[int, Event], list[str]]:
        """What became of each candidate, by its place, and why others failed."""
        done = self.folder.candidates(self.iteration, stage)
        if all("error" in record for record in done.values()):
            done = {}  # what made every one of them fail, in a run before this one, may be over
        missing = [place for place in racing if place not in done]
        tasks = [self._task(stage, steps, place, self._weights_of(before.get(place))) for place in missing]
        for number, result in self.workers.results(tasks):
            done[missing[number]] = self._noted(stage, steps, missing[number], result)
        found = {place: done[place] for place in racing if "error" not in done[place]}
        return found, [done[place]["error"] for place in racing if "error" in done[place]]

    def _task(self, stage: int, steps: int, place: int, weights: bytes | None) -> Task:
        arguments = {"plan": self.tried[place].plan, "weights": weights, "steps": steps, "seed": self._seed(stage)}
        return Task(f"iteration {self.iteration}: {self.tried[place].block}", judged, arguments)

    def _weights_of(self, record: Event | None) -> bytes | None:
        return None if record is None else self.folder.weights(record)

    def _noted(self, stage: int, steps: int, place: int, result: Judged | Failure) -> Event:
        proposal = self.tried[place]
        record: dict[str, Any] = {
            "iteration": self.iteration,
            "stage": stage,
            "place": place,
            "block": proposal.block,
        }
        if isinstance(result, Failure):
            record["error"] = result.reason
            self.told(live_table.failed(self.iteration, proposal, result.reason))
            self.folder.note_candidate(record, None)
        else:
            record |= {"accuracy": result.accuracy, "loss": result.loss}
            did = f"{steps} steps" if steps else "healed"
            self.told(live_table.row(self.iteration, did, proposal, result.accuracy))
            self.folder.note_candidate(record, result.weights)
        return record


def _half(count: int) -> int:
    """Half of the race, an even number where it can be, so that two workers are busy to the end."""
    half = ceil(count / 2)
    return min(count, half + half % 2)
