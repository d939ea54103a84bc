"""What `train` and `finetune` have in common: the run, and the saved folder."""

from __future__ import annotations

from secateur.cli.measuring import measured
from secateur.cli.opening import Target
from secateur.cli.options import TrainingOptions
from secateur.cli.outcome import Outcome
from secateur.cli.saving import demand_out, save
from secateur.cli.session import note
from secateur.cli.tables import before_and_after
from secateur.sparse import as_tensors, masks_of
from secateur.train import TrainConfig, fit


def train_and_save(verb: str, options: TrainingOptions, target: Target) -> Outcome:
    """Train on the train split, evaluate before and after on the test split, and save the folder."""
    out, config = demand_out(options.out), _config(options)
    train_set, test_set = target.images(options, "train"), target.images(options, "test")
    opened = target.build(train_set)
    before = measured(opened, test_set)
    note(f"training {target.name} on {train_set.name}: {len(train_set)} images, {config.epochs} epochs")
    masks = as_tensors(masks_of(opened.model))
    stages = fit(opened.model, train_set, config=config, masks=masks, checkpoint_dir=options.checkpoint_dir)
    after = measured(opened, test_set)
    save(verb, options, opened.model, out=out, source=opened.source, before=before, after=after, stages=stages)
    record = {"before": before, "after": after, "verification": None, "out": str(out)}
    return Outcome(record, f"{before_and_after(before, after)}\nsaved to {out}")


def _config(options: TrainingOptions) -> TrainConfig:
    return TrainConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        schedule=options.schedule,  # type: ignore[arg-type]
        optimizer=options.optimizer,  # type: ignore[arg-type]
        seed=options.seed,
        augment=options.augment,
        max_steps=options.max_steps,
        device=options.device,
    )
