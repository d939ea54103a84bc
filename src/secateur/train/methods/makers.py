"""The methods that have a name: their options, and how a run makes them.

Options are those of the classes, but for times, which are shares of the run's steps: `start`, `end`, `ramp`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from secateur.allocate import allocate
from secateur.score import Question
from secateur.spec import BudgetError, Plan, Scores
from secateur.train.methods.admm import ADMM
from secateur.train.methods.channels import Channels
from secateur.train.methods.curves import Curve, cubic, geometric, linear, one_shot
from secateur.train.methods.dropout import UnitDropout, WeightDropout, by_rank, lowest
from secateur.train.methods.gates import HardConcreteGates
from secateur.train.methods.group_lasso import GroupLasso
from secateur.train.methods.growing import GrowingPenalty
from secateur.train.methods.layer_drop import LayerDrop
from secateur.train.methods.named import METHODS, Made, Run
from secateur.train.methods.slimming import Slimming
from secateur.train.methods.sparsity import SparsitySchedule
from secateur.train.methods.targets import Target, Weights, WeightsByMovement

FRACTIONS = ("channels", "params", "macs", "activations")
"""Budgets that a target of channels can be given in."""
UPDATES = 20
"""Of ADMM in one run, where nothing is said."""

# What goes.


@dataclass(frozen=True, kw_only=True)
class OfWeights:
    """Single weights, by a sparsity or an N:M pattern."""

    sparsity: float | None = None
    granularity: str | None = None
    allocator: str | None = None
    choosing: ClassVar[type[Weights]] = Weights

    def target(self, run: Run) -> Weights | Channels:
        return self._weights(run)

    def _weights(self, run: Run) -> Weights:
        return self.choosing(
            run.model,
            sparsity=self.sparsity,
            granularity=self.granularity or "element",
            allocator=self.allocator or "global",
        )


@dataclass(frozen=True, kw_only=True)
class OfChannels:
    """Whole channels and their like, by one fraction that is kept."""

    channels: float | None = None
    params: float | None = None
    macs: float | None = None
    activations: float | None = None
    criterion: str | None = None
    allocator: str | None = None
    whole: ClassVar[bool] = False

    def kept(self) -> dict[str, float]:
        """The budget, empty where none is given."""
        return {unit: value for unit in FRACTIONS if (value := getattr(self, unit)) is not None}

    def target(self, run: Run) -> Weights | Channels:
        return self._channels(run)

    def _channels(self, run: Run) -> Channels:
        target = Channels(
            run.model,
            run.structure,
            budget=self.kept(),
            criterion=self.criterion or "l2",
            allocator=self.allocator or "uniform",
            whole=self.whole,
        )
        target.plan()  # what cannot be met is an error now, not in the middle of training
        return target


@dataclass(frozen=True, kw_only=True)
class OfEither(OfWeights, OfChannels):
    """Single weights or whole channels, as the options say."""

    def target(self, run: Run) -> Weights | Channels:
        weights, kept = self.sparsity is not None or self.granularity is not None, self.kept()
        if weights == bool(kept):
            raise BudgetError(
                "what goes? Give a method either sparsity=0.9 (or granularity=2:4), for single weights, or a fraction "
                f"of channels that is kept, such as macs=0.5 ({', '.join(FRACTIONS)})"
            )
        if weights and self.criterion is not None:
            raise BudgetError(f"criterion={self.criterion} is for channels; single weights go by magnitude, drop it")
        return self._channels(run) if kept else self._weights(run)


def _ending_with(method: SparsitySchedule | ADMM | GrowingPenalty, target: Weights | Channels) -> Made:
    return Made(method, plan=target.plan) if isinstance(target, Channels) else Made(method, zeros=target)


def demand_sgd(name: str, run: Run) -> None:
    """Raise BudgetError for an optimizer that rescales gradients."""
    if run.config.optimizer != "sgd":
        raise BudgetError(f"{name} acts through gradients, which {run.config.optimizer} rescales; take optimizer sgd")


def _demand_times(start: float, end: float) -> None:
    if not 0 <= start < end <= 1:
        raise BudgetError(
            f"got start={start:g}, end={end:g}; expected shares of the run's steps, 0 <= start < end <= 1"
        )


# Schedules.


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """Zeros that become more from `start` to `end`, two shares of the run's steps."""

    start: float = 0.0
    end: float = 0.7
    every: int | None = None
    memory: float = 0.0
    curve: ClassVar[Curve] = staticmethod(cubic)
    soft: ClassVar[bool] = False

    @abstractmethod
    def target(self, run: Run) -> Weights | Channels:
        """What gets the zeros."""

    def make(self, run: Run) -> Made:
        _demand_times(self.start, self.end)
        target, start = self.target(run), run.step_at(self.start)
        steps = max(start + 1, run.step_at(self.end))
        schedule = SparsitySchedule(
            target,
            steps=steps,
            curve=self.curve,
            start=start,
            every=self.steps_between(run, steps - start) if self.every is None else self.every,
            memory=self.memory,
            margin=self.margin_back(),
            soft=self.soft,
        )
        return _ending_with(schedule, target)

    def steps_between(self, run: Run, _steps: int, /) -> int:
        """Between two choices, where `every` is not given."""
        return min(16, run.steps)

    def margin_back(self) -> float:
        """By how much what returns must be larger."""
        return 0.0


@METHODS.register("agp", "gradual magnitude pruning: zeros become more along a cubic curve")
@dataclass(frozen=True, kw_only=True)
class Gradual(OfEither, Schedule):
    """To Prune or Not to Prune, 2017."""


@METHODS.register("one-shot", "zeros come all at once, when 70 % (end=) of the steps are over")
@dataclass(frozen=True, kw_only=True)
class OneShot(OfEither, Schedule):
    curve = staticmethod(one_shot)


@dataclass(frozen=True, kw_only=True)
class Rounds(OfEither, Schedule):
    """In so many steps of the curve."""

    rounds: int = 5

    def steps_between(self, run: Run, steps: int, /) -> int:
        if not 1 <= self.rounds <= run.steps:
            raise BudgetError(f"got rounds={self.rounds}; expected 1 to {run.steps}, the steps of the run")
        return max(1, steps // self.rounds)


@METHODS.register("linear", "iterative pruning in rounds (rounds=5): the same part of the whole in each")
@dataclass(frozen=True, kw_only=True)
class Linear(Rounds):
    curve = staticmethod(linear)


@METHODS.register("geometric", "iterative pruning in rounds (rounds=5): the same part of what is left in each")
@dataclass(frozen=True, kw_only=True)
class Geometric(Rounds):
    curve = staticmethod(geometric)


@METHODS.register("feedback", "dynamic pruning with feedback: removed weights go on learning, and may return")
@dataclass(frozen=True, kw_only=True)
class Feedback(OfEither, Schedule):
    memory: float = 1.0


@METHODS.register("splicing", "dynamic network surgery: as feedback, what returns must be larger by a margin")
@dataclass(frozen=True, kw_only=True)
class Splicing(OfEither, Schedule):
    memory: float = 1.0
    margin: float = 0.22

    def margin_back(self) -> float:
        return self.margin


@METHODS.register("movement", "movement pruning: the weights go that training moves towards zero")
@dataclass(frozen=True, kw_only=True)
class ByMovement(OfWeights, Schedule):
    memory: float = 1.0
    choosing = WeightsByMovement


@METHODS.register(
    "soft-filters", "soft filter pruning: channels are zeroed every epoch, train on, and leave at the end"
)
@dataclass(frozen=True, kw_only=True)
class SoftFilters(OfChannels, Schedule):
    soft = True

    def steps_between(self, run: Run, _steps: int, /) -> int:
        return run.steps_per_epoch


# Drawn and pushed towards zero.


@dataclass(frozen=True, kw_only=True)
class WithADMM:
    """How hard weights are drawn, and how often it is said anew where to."""

    rho: float = 0.01
    growth: float = 1.3
    ceiling: float = 1.0
    every: int | None = None

    def admm(self, name: str, run: Run, target: Target) -> ADMM:
        demand_sgd(name, run)
        every = max(1, run.steps // UPDATES) if self.every is None else self.every
        return ADMM(target, rho=self.rho, growth=self.growth, ceiling=self.ceiling, every=every)


@METHODS.register("admm", "draws weights to the nearest ones that have the zeros asked for, then sets these")
@dataclass(frozen=True, kw_only=True)
class ByADMM(OfEither, WithADMM):
    whole = True

    def make(self, run: Run) -> Made:
        target = self.target(run)
        return _ending_with(self.admm("admm", run, target), target)


@METHODS.register("growing", "growing regularisation: what is to go is pushed towards zero ever harder (GReg)")
@dataclass(frozen=True, kw_only=True)
class Growing(OfEither):
    """The penalty reaches its ceiling at `end`, unless `delta` is given."""

    start: float = 0.0
    end: float = 0.7
    delta: float | None = None
    every: int = 5
    ceiling: float = 1.0
    pick_at: float = 0.0
    whole = True

    def make(self, run: Run) -> Made:
        _demand_times(self.start, self.end)
        demand_sgd("growing", run)
        target, start = self.target(run), run.step_at(self.start)
        rises = max(1, (run.step_at(self.end) - start) // max(1, self.every))
        method = GrowingPenalty(
            target,
            delta=self.ceiling / rises if self.delta is None else self.delta,
            every=self.every,
            ceiling=self.ceiling,
            pick_at=self.pick_at,
            start=start,
        )
        return _ending_with(method, target)


# Regularisers: what is cut is said later.


def pruned(options: str) -> str:
    """The command that takes what training prepared."""
    return f"secateur prune {{out}} --data {{data}} {options} --out DIR"


@METHODS.register("slimming", "network slimming: L1 on the BatchNorm scales of channels")
@dataclass(frozen=True, kw_only=True)
class BySlimming:
    strength: float = 1e-4

    def make(self, run: Run) -> Made:
        method = Slimming(run.model, run.structure, strength=self.strength)
        return Made(method, then=pruned("--criterion bn-scale --allocator global --budget macs=0.5"))


@METHODS.register("group-lasso", "shrinks all that leaves together by its norm, to exact zeros")
@dataclass(frozen=True, kw_only=True)
class ByGroupLasso:
    strength: float = 1e-5

    def make(self, run: Run) -> Made:
        method = GroupLasso(run.model, run.structure, strength=self.strength)
        return Made(method, then=pruned("--criterion l2 --allocator global --budget macs=0.5"))


@METHODS.register("targeted-dropout", "drops the lowest weights of each output at random")
@dataclass(frozen=True, kw_only=True)
class TargetedDropout:
    share: float = 0.75
    rate: float = 0.66
    ramp: float = 0.0

    def make(self, run: Run) -> Made:
        method = WeightDropout(run.model, share=self.share, rate=self.rate, ramp=run.step_at(self.ramp))
        return Made(
            method, then=pruned(f"--granularity element --criterion magnitude --budget sparsity={self.share:g}")
        )


@METHODS.register("unit-dropout", "targeted dropout of whole units: those with the lowest norms, at random")
@dataclass(frozen=True, kw_only=True)
class TargetedUnits:
    share: float = 0.5
    rate: float = 0.5
    ramp: float = 0.0

    def make(self, run: Run) -> Made:
        odds = lowest(self.share, self.rate)
        method = UnitDropout(run.model, run.structure, odds=odds, ramp=run.step_at(self.ramp))
        return Made(method, then=pruned("--criterion l2 --budget macs=0.5"))


@METHODS.register("drop-connect", "structured DropConnect: units drop at random, the more often the smaller")
@dataclass(frozen=True, kw_only=True)
class StructuredDropConnect:
    rate: float = 0.25
    ramp: float = 0.0

    def make(self, run: Run) -> Made:
        method = UnitDropout(run.model, run.structure, odds=by_rank(self.rate), ramp=run.step_at(self.ramp))
        return Made(method, then=pruned("--criterion l2 --budget macs=0.5"))


@METHODS.register("layer-drop", "leaves residual blocks out at random; share=0.5 cuts every second one at the end")
@dataclass(frozen=True, kw_only=True)
class Blocks:
    rate: float = 0.2
    share: float | None = None

    def make(self, run: Run) -> Made:
        method = LayerDrop(run.model, run.structure, rate=self.rate)
        if self.share is None:
            return Made(method, then=pruned("--granularity blocks --budget macs=0.5"))
        plan = method.every_other(self.share)
        return Made(method, plan=lambda: plan)


@METHODS.register("l0", "gates on channels, learned with the weights; macs=0.5 cuts by them at the end")
@dataclass(frozen=True, kw_only=True)
class Gates(OfChannels):
    strength: float = 0.1
    learning_rate: float = 0.02
    open_at_first: float = 0.9

    def make(self, run: Run) -> Made:
        if self.criterion is not None:
            raise BudgetError(f"l0: got criterion={self.criterion}, but the gates themselves are the order; drop it")
        if run.config.precision == "fp16":
            raise BudgetError("l0 has an optimizer of its own, which knows nothing of scaled losses; take bf16 or fp32")
        kept = self.kept()
        gates = HardConcreteGates(
            run.model,
            run.structure,
            strength=self.strength,
            learning_rate=self.learning_rate,
            open_at_first=self.open_at_first,
        )
        if not kept:
            return Made(gates, then=pruned("--criterion l2 --allocator global --budget macs=0.5"))

        def plan() -> Plan:
            with torch.no_grad():
                found = gates(Question(run.structure, {}, gates.groups.axes))
            scores = Scores("l0", {axis: part.double().cpu().numpy() for axis, part in found.items()})
            return allocate(run.structure, scores, kept, allocator=self.allocator or "global")

        return Made(gates, plan=plan)
