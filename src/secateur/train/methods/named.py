"""Methods by name, as `NAME:KEY=VALUE,...` says them: `agp:sparsity=0.95,end=0.8`, `admm:macs=0.5`, `slimming`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError
from torch import nn

from secateur.sparse.masks import Masks
from secateur.spec import Plan, RegistryError, Structure
from secateur.spec.errors import nearest
from secateur.spec.registry import Registry
from secateur.train.config import TrainConfig
from secateur.train.method import Method
from secateur.train.methods.targets import Weights


@dataclass(frozen=True)
class Run:
    """The training that a method is made for."""

    model: nn.Module
    inputs: Any
    """An example."""
    structure: Structure
    config: TrainConfig
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        everything = self.config.epochs * self.steps_per_epoch
        return min(everything, self.config.max_steps or everything)

    def step_at(self, share: float) -> int:
        """The step at which this share of the run is over."""
        return round(share * self.steps)


@dataclass(frozen=True)
class Made:
    """A method, and what the network ends with after it: zeros, fewer channels, or neither."""

    method: Method
    penalty: Method | None = None
    """That acts beside it."""
    zeros: Weights | None = None
    """Whose choice of single weights stays zero for good."""
    plan: Callable[[], Plan] | None = None
    """Says, when training is over, what leaves for good."""
    masks: Callable[[], Masks] | None = None
    """Says, when training is over, which weights stay zero for good, False at zeros."""
    then: str = ""
    """The command that goes on from here, with `{out}` for the folder and `{data}` for the data of this run."""

    @property
    def decides(self) -> bool:
        """Whether something goes at the end."""
        return self.zeros is not None or self.plan is not None or self.masks is not None


class Maker(Protocol):
    """A dataclass: its fields are the options, each with a default, of text, numbers or booleans."""

    def make(self, run: Run) -> Made:
        """Called once, before the first step; raises a SecateurError for options that make no sense."""
        ...


METHODS: Registry[type[Maker]] = Registry("methods")
"""Plug-ins are classes in the group `secateur.methods` of entry points."""


def read_method(text: str) -> Maker:
    """The method that `NAME:KEY=VALUE,...` names. Raises RegistryError, with the nearest names, for an unknown name or
    option, and for a value of the wrong kind."""
    name, _, options = text.partition(":")
    maker: Any = METHODS.get(name)
    known = [field.name for field in fields(maker)]
    given: dict[str, str] = {}
    for item in options.split(",") if options else ():
        key, found, value = item.partition("=")
        key = key.replace("-", "_")
        if not found or key in given:
            raise RegistryError(f"method {text!r}: got {item!r}, expected each option once, as {name}:KEY=VALUE,...")
        if key not in known:
            raise RegistryError(
                f"method {name} has no option {key!r}; did you mean: {nearest(key, known)}? It has: {', '.join(known)}"
            )
        given[key] = value
    try:
        return TypeAdapter(maker).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RegistryError(f"method {name}: option {first['loc'][0]}={first['input']}: {first['msg']}") from error
