"""`secateur finetune`: the accuracy of a pruned network back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from secateur.cli.options import TrainingOptions
from secateur.cli.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Options of `finetune`: gentler than those of `train`, because the weights are good already."""

    epochs: Annotated[int, Option(help="Rounds through the training images.")] = 3
    lr: Annotated[float, Option(help="Largest learning rate.")] = 0.02
    schedule: Annotated[str, Option(help="Learning rate over time: one-cycle, cosine, step or constant.")] = "cosine"


def run(options: Options) -> Outcome:
    """Retrain a pruned network and save it."""
    from secateur.cli.opening import look_up
    from secateur.cli.training import train_and_save
    from secateur.spec import ModelError

    target = look_up(options)
    if not target.is_trained:
        raise ModelError(
            f"finetune starts from trained weights, and {target.name} has random ones; give a folder that Secateur "
            "saved, or --weights FILE.safetensors (secateur train starts from nothing)"
        )
    return train_and_save("finetune", options, target)
