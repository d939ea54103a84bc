"""The teacher of `--distill`, and what is learnt from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from secateur.cli.opening import Opened, Target, look_up
from secateur.cli.options import TrainingOptions
from secateur.data import ImageSet
from secateur.spec import ModelError
from secateur.train import Distillation, block_features


def distillation_of(options: TrainingOptions, target: Target, opened: Opened, data: ImageSet) -> Distillation | None:
    """The distillation that was asked for; None where none was.

    Raises ModelError for a teacher that knows other classes than the data or nothing yet, and for `--unlabelled`
    without a teacher.
    """
    if options.distill is None:
        if options.unlabelled is not None:
            raise ModelError("--unlabelled needs a teacher that knows the answers; name one with --distill DIR")
        return None
    teacher = _teacher(options.distill, options, target).build(data)
    wanted = options.distill_features > 0
    return Distillation(
        opened.model,
        teacher.model,
        alpha=options.distill_alpha if options.unlabelled is None else 1.0,
        temperature=options.distill_temperature,
        feature_weight=options.distill_features,
        features=block_features(opened.model, teacher.model, opened.inputs) if wanted else (),
    )


def _teacher(name: str, options: TrainingOptions, target: Target) -> Target:
    if name.endswith(".safetensors"):
        return replace(target, folder=None, weights=Path(name))
    teacher = look_up(replace(options, model=name, weights=None))
    if not teacher.is_trained:
        raise ModelError(
            f"--distill {name} has random weights, from which nothing can be learnt; give a folder that Secateur "
            "saved, or weights"
        )
    return teacher
