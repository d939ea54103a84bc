"""What workers do for a search: score a network, and make, heal, train and judge one candidate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any

import torch
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import nn

from secateur.data import ImageSet
from secateur.recover import SECOND_ORDER, heal_, healed_scores, stages_of
from secateur.score import score
from secateur.score.gradients import batches
from secateur.search.netadapt.config import SearchConfig
from secateur.spec import Plan, Scores, SecateurError, Structure
from secateur.store import remember_history
from secateur.structure.capture import Inputs, inputs_on, private_copy
from secateur.surgery import shrink
from secateur.train import Distillation, block_features, evaluate, fit

BASE, PLANS, TEACHER, MATERIAL = "base", "plans", "teacher", "material"
"""Names of what tasks share: the network that is cut, the plans that led to it, the dense one, and all else."""
CALIBRATION_BATCH = 128


@dataclass(frozen=True)
class Material:
    """What every task of a search reads."""

    inputs: Inputs
    train: ImageSet
    held_out: ImageSet
    config: SearchConfig

    def calibration(self, device: str) -> list[Any]:
        """Batches of training images."""
        count = min(self.config.calibration, len(self.train))
        return list(self.train.subset(count, self.config.seed).batches(CALIBRATION_BATCH, device=device))


@dataclass(frozen=True)
class Judged:
    """A candidate, as far as it has got."""

    accuracy: float
    """On the images that are held out."""
    loss: float
    weights: bytes
    """Safetensors."""


def scored(shared: Mapping[str, Any], device: str, *, structure: Structure) -> Scores:
    """Scores of the network that is to be cut."""
    material: Material = shared[MATERIAL]
    config, data = material.config, material.calibration(device)
    model = _on(device, shared[BASE])
    with redirect_stderr(StringIO()):
        if config.criterion == SECOND_ORDER:
            return healed_scores(model, structure, lambda: batches(data), seed=config.seed)
        return score(model, structure, criterion=config.criterion, data=data, seed=config.seed)


def judged(
    shared: Mapping[str, Any], device: str, *, plan: Plan, weights: bytes | None, steps: int, seed: int
) -> Judged:
    """The candidate that the plan makes, healed, or with these weights of an earlier part of the race; trained for so
    many steps and judged."""
    material: Material = shared[MATERIAL]
    base = _on(device, shared[BASE])
    small = shrink(base, plan).eval()
    remember_history(small, [*shared[PLANS], plan])
    with redirect_stderr(StringIO()):  # of several at once no progress can be read
        if weights is None:
            _heal_(small, base, plan, material, device)
        else:
            small.load_state_dict(from_bytes(weights))
        if steps:
            _train_(small, shared, device, steps, seed)
        found = evaluate(small, material.held_out, device=device)
    if not math.isfinite(found["loss"]):
        raise SecateurError("its loss is not finite; lower the learning rate")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in small.state_dict().items()}
    return Judged(found["accuracy"], found["loss"], to_bytes(state))


def _on(device: str, model: nn.Module) -> nn.Module:
    """The model, or a copy there: what is shared stays where it is."""
    return model if device == "cpu" else private_copy(model).to(device)


def _heal_(small: nn.Module, base: nn.Module, plan: Plan, material: Material, device: str) -> None:
    stages = stages_of(material.config.recover)
    data = [((x,), None) for x, _ in material.calibration(device)] if stages else []
    generator = torch.Generator().manual_seed(material.config.seed)
    for _ in heal_(small, base, plan, inputs_on(material.inputs, device), data, stages, generator):
        pass


def _train_(small: nn.Module, shared: Mapping[str, Any], device: str, steps: int, seed: int) -> None:
    material: Material = shared[MATERIAL]
    config = material.config
    training = replace(config.short_training, epochs=steps, max_steps=steps, seed=seed, device=device)
    dense = _on(device, shared[TEACHER]) if config.teacher else None
    with taught_by(dense, small, inputs_on(material.inputs, device), config) as teacher:
        fit(small, material.train, config=training, distillation=teacher)
    small.eval()


@contextmanager
def taught_by(
    dense: nn.Module | None, small: nn.Module, inputs: Inputs, config: SearchConfig
) -> Iterator[Distillation | None]:
    """What the small network, whose history is known, is to learn from the dense one, if there is one."""
    if dense is None:
        yield None
        return
    weight = config.teacher_features
    features = block_features(small, dense, inputs) if weight else ()
    made = Distillation(small, dense, alpha=config.teacher, feature_weight=weight, features=features)
    try:
        yield made
    finally:
        made.finish()
