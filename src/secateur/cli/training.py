"""What `train` and `finetune` have in common: the run, and the saved folder."""

from __future__ import annotations

from dataclasses import replace

from secateur.cli.measuring import measured
from secateur.cli.methods import in_training, made_for, read_methods, told
from secateur.cli.opening import Target
from secateur.cli.options import TrainingOptions
from secateur.cli.outcome import Outcome
from secateur.cli.processes import joined
from secateur.cli.prune import as_record
from secateur.cli.saving import demand_out, save
from secateur.cli.session import note
from secateur.cli.tables import before_and_after
from secateur.cli.teacher import distillation_of
from secateur.data import ImageSet
from secateur.sparse import as_tensors, masks_of
from secateur.spec import SecateurError
from secateur.train import JsonLines, TensorBoard, TrainConfig, fit, telling
from secateur.train.methods import end
from secateur.train.processes import from_first

VALIDATION_SHARE = 0.1


def train_and_save(verb: str, options: TrainingOptions, target: Target) -> Outcome:
    """Train on the train split, evaluate before and after on the test split, and save the folder.

    All processes train; the first alone measures and saves.
    """
    out, makers = demand_out(options.out), read_methods(options.method)
    with joined(options.device) as device:
        target = replace(target, device=device)
        train_set, test_set = target.images(options, "train"), target.images(options, "test")
        opened = target.build(train_set)
        distillation = distillation_of(options, target, opened, train_set)
        before = from_first(lambda: measured(opened, test_set))
        config = _config(options, device)
        train_set, validation = _held_out(options, train_set)
        if options.unlabelled is not None:
            train_set = target.images(replace(options, data=options.unlabelled), "train")
        train_set = replace(train_set, shift=_shift(options))
        methods = made_for(makers, options.method, opened, config, train_set)
        note(f"training {target.name} on {train_set.name}: {len(train_set)} images, {config.epochs} epochs")
        stages = fit(
            opened.model,
            train_set,
            config=config,
            masks=as_tensors(masks_of(opened.model)),
            methods=in_training(methods, options.method),
            distillation=distillation,
            validation=validation,
            on_epoch=telling(_trackers(options)),
            checkpoint_dir=options.checkpoint_dir,
        )
        ended = end(opened.model, opened.inputs, methods)
        after = from_first(lambda: measured(replace(opened, model=ended.model), test_set))

        def written() -> str:
            found = {"before": before, "after": after, "stages": stages, "verification": ended.verification}
            save(verb, options, ended.model, out=out, source=opened.source, **found)
            return str(out)

        record = {"before": before, "after": after, "verification": as_record(ended.verification)}
        record["out"] = from_first(written)
    lines = [before_and_after(before, after), *told(methods, ended, options)]
    verified = ended.verification is None or ended.verification.ok
    return Outcome(record, "\n".join(lines), verified=verified)


def _held_out(options: TrainingOptions, images: ImageSet) -> tuple[ImageSet, ImageSet | None]:
    """Images to train on, and those to validate on, if any."""
    share = options.validation
    if share is None:
        share = 0.0 if options.early_stopping is None else VALIDATION_SHARE
    count = round(share * len(images))
    if not 0 <= share < 1 or (share > 0 and not 0 < count < len(images)):
        raise SecateurError(
            f"--validation {share}: leaves {count} of {len(images)} images to validate on; give a share in (0, 1) that "
            "leaves some on both sides"
        )
    if count == 0:
        return images, None
    return images.split(count, options.seed)


def _shift(options: TrainingOptions) -> int | None:
    if options.shift is not None and not options.augment:
        raise SecateurError(f"--shift {options.shift} says how far --augment shifts images; give that, too, or drop it")
    return options.shift


def _trackers(options: TrainingOptions) -> list[JsonLines | TensorBoard]:
    log = [] if options.log is None else [JsonLines(options.log)]
    return [*log, *([] if options.tensorboard is None else [TensorBoard(options.tensorboard)])]


def _config(options: TrainingOptions, device: str) -> TrainConfig:
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
        device=device,
        label_smoothing=options.label_smoothing,
        class_weights=options.class_weights,  # type: ignore[arg-type]
        mixup=options.mixup,
        ema=options.ema,
        precision=options.precision,  # type: ignore[arg-type]
        channels_last=options.channels_last,
        accumulate=options.accumulate,
        early_stopping=options.early_stopping,
    )
