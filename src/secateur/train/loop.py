"""The training loop: plain PyTorch, the same result for the same options, whether or not it was interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.data import ImageSet
from secateur.sparse import Masks, keeping
from secateur.spec import SecateurError, StoreError
from secateur.spec.errors import WriteError
from secateur.train import checkpoint, processes
from secateur.train.batches import Batches, Loader
from secateur.train.config import TrainConfig
from secateur.train.distillation import Distillation
from secateur.train.evaluate import evaluate
from secateur.train.layout import channels_last
from secateur.train.method import Method, Stateful
from secateur.train.objective import labels_of
from secateur.train.progress import Reporter, reporting
from secateur.train.schedule import rate
from secateur.train.stepping import Stepper
from secateur.train.stopping import Stopping

Record = dict[str, Any]
"""`epoch` (from 1), mean `loss` and `accuracy` on the training batches (`agreement` with the teacher where no labels
are read), `learning_rate` of the last step, `steps` so far, `seconds`; with a validation `validation_loss` and
`validation_accuracy`."""


def fit(
    model: nn.Module,
    data: ImageSet | Loader,
    *,
    config: TrainConfig,
    masks: Masks | None = None,
    methods: Sequence[Method] = (),
    distillation: Distillation | None = None,
    validation: ImageSet | None = None,
    on_epoch: Callable[[Record], object] | None = None,
    checkpoint_dir: str | Path | None = None,
) -> list[Record]:
    """Train the model in place on `config.device` and return one record per epoch.

    `masks` holds removed weights at zero, with their gradients and what the optimizer remembers of them. `methods` have
    a hand in each optimizer step, the first outermost. `distillation` is of this model. `validation` is evaluated after
    each epoch, with the averaged weights where there are some; then, in the first process, `on_epoch(record)` runs and
    the checkpoint is written. With `checkpoint_dir`, a run that was interrupted goes on after the last whole epoch and
    ends with the same weights as one that was not. Batches of images in memory that are not full are left out where
    there is a full one. Under torch.distributed each process takes its part of every batch, and gradients are averaged.
    The model ends in train mode, and the global random state is left as it was.

    Raises SecateurError at the first loss that is not finite, DataError where the data fails, WriteError where the
    checkpoint cannot be written, ModelError where the model returns no class scores, StoreError for a checkpoint that
    does not fit, PlanError for masks that do not. Once training has begun, errors and KeyboardInterrupt say where it
    ended and what is kept.
    """
    if distillation is not None:
        distillation.to(config.device)
    batches = Batches(data, config)
    labels = labels_of(data, config, distillation)
    stepper = Stepper(model.to(config.device), config, methods, distillation, labels)
    run = _Run(stepper, batches, validation, None if checkpoint_dir is None else Path(checkpoint_dir))
    run.resume()
    if masks is not None:
        keeping(model, masks, stepper.optimizer)
    shown = reporting(epochs=run.epochs, steps=run.steps, done=run.progress.steps)
    networks = [model] if distillation is None else [model, distillation.teacher]
    laid_out = channels_last(networks) if config.channels_last else nullcontext()
    with torch.random.fork_rng(), laid_out, shown as reporter:
        while not run.is_over:
            with run.saying_what_is_kept():
                run.epoch(reporter, on_epoch)
    run.finish()
    return list(run.progress.history)


class _Run:
    """One call of `fit`: its epochs, and what it keeps."""

    def __init__(self, stepper: Stepper, batches: Batches, validation: ImageSet | None, folder: Path | None) -> None:
        config = stepper.config
        if config.early_stopping is not None and validation is None:
            raise SecateurError(f"early_stopping={config.early_stopping} needs images to validate on; give validation")
        self.stepper = stepper
        self.config = config
        self.model = stepper.model
        self.batches = batches
        self.validation = validation
        self.folder = folder
        self.stopping = None if config.early_stopping is None else Stopping(config.early_stopping)
        self.progress = checkpoint.Progress()
        self.step = 0
        """Steps that were taken, those of an unfinished epoch too."""
        everything = config.epochs * batches.per_epoch
        self.steps = min(everything, config.max_steps or everything)
        self.epochs = ceil(self.steps / batches.per_epoch)

    @property
    def is_over(self) -> bool:
        """Whether no epoch is left, or none worth its time."""
        gave_up = self.stopping is not None and self.stopping.gave_up
        return gave_up or len(self.progress.history) >= self.epochs

    def epoch(self, reporter: Reporter, on_epoch: Callable[[Record], object] | None) -> None:
        """Train for one epoch, validate, tell and keep."""
        record = self._trained(reporter)
        self._demand_finite()
        average = self.stepper.average
        with nullcontext() if average is None else average.in_place():
            processes.buffers_of_first(self.model)
            if self.validation is not None:
                record |= self._validated(self.validation)
            if self.stopping is not None:
                self.stopping.saw(record["validation_accuracy"], record["validation_loss"], self.model)
        progress = replace(self.progress, steps=record["steps"], history=(*self.progress.history, record))
        if processes.index() == 0:
            reporter.epoch(record)
            if on_epoch is not None:
                on_epoch(record)
            if self.folder is not None:
                checkpoint.save(self.folder, self._parts(), self._options(), progress)
        self.progress = progress

    def finish(self) -> None:
        """Give the model the weights that the run is to end with."""
        if self.stopping is not None:
            self.stopping.restore(self.model)
        elif self.stepper.average is not None:
            self.stepper.average.put_in()
        processes.buffers_of_first(self.model)
        self.model.train()

    # An epoch.

    def _trained(self, reporter: Reporter) -> Record:
        started, epoch = time.monotonic(), len(self.progress.history)
        seed = self.config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)  # dropout, and the order of loaders; the same in every process
        self.model.train()
        loss, right, seen = 0.0, 0.0, 0
        self.step = self.progress.steps
        for batch in self.batches.epoch(epoch, seed):
            if self.step == self.steps:
                break
            learning_rate = self.config.learning_rate * rate(self.config.schedule, self.step, self.steps)
            batch_loss, batch_right = self.stepper.step(batch, learning_rate)
            loss, right, seen = loss + batch_loss * len(batch), right + batch_right * len(batch), seen + len(batch)
            self.step += 1
            reporter.step(batch_loss, right / seen)
        loss, right, total = processes.summed([loss, right, seen], self.config.device)
        teacher = self.stepper.distillation
        return {
            "epoch": epoch + 1,
            "loss": loss / total,
            "agreement" if teacher is not None and teacher.alpha == 1 else "accuracy": right / total,
            "learning_rate": self.stepper.optimizer.param_groups[0]["lr"],
            "steps": self.step,
            "seconds": time.monotonic() - started,
        }

    def _validated(self, images: ImageSet) -> dict[str, float]:
        found = processes.from_first(lambda: evaluate(self.model, images, device=self.config.device))
        return {f"validation_{key}": value for key, value in found.items()}

    def _demand_finite(self) -> None:
        broken = [name for name, value in self.model.named_parameters() if not bool(value.isfinite().all())]
        if broken:
            raise SecateurError(f"{broken[0]} holds values that are not finite; lower learning_rate")

    # What is kept.

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        if self.folder is None:
            return
        self.progress, changes = checkpoint.resume(self.folder, self._parts(), self._options())
        kept = processes.from_first(lambda: self.progress.steps)
        if kept != self.progress.steps:
            raise StoreError(
                f"{self.folder} keeps {self.progress.steps} steps for process {processes.index()} and {kept} for the "
                "first; give a checkpoint_dir that all processes see"
            )
        if changes and processes.index() == 0:
            sys.stderr.write(f"going on after epoch {len(self.progress.history)} with {', '.join(changes)}\n")

    def _parts(self) -> dict[str, Stateful]:
        stepper = self.stepper
        parts: dict[str, Stateful] = {
            "model": self.model,
            "optimizer": checkpoint.OptimizerState(stepper.optimizer),
            "scaler": checkpoint.ScalerState(stepper.scaler),
        }
        if stepper.average is not None:
            parts["average"] = stepper.average
        if self.stopping is not None:
            parts["stopping"] = self.stopping
        for number, method in enumerate(stepper.methods):
            if isinstance(method, Stateful):
                parts[f"method-{number}-{type(method).__name__}"] = method
        return parts

    def _options(self) -> dict[str, Any]:
        teacher = self.stepper.distillation
        return asdict(self.config) | {"distillation": None if teacher is None else teacher.settings()}

    @contextmanager
    def saying_what_is_kept(self) -> Iterator[None]:
        """Whatever ends the run says where it ended, and what is kept."""
        try:
            yield
        except SecateurError as error:
            raise type(error)(f"training stopped {self._place()}: {error}; {self._kept()}") from error
        except OSError as error:
            raise WriteError(f"training stopped {self._place()}: {error}; {self._kept()}") from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"training was interrupted {self._place()}; {self._kept()}") from None

    def _place(self) -> str:
        return f"after {self.step} of {self.steps} steps, in epoch {len(self.progress.history) + 1} of {self.epochs}"

    def _kept(self) -> str:
        done = len(self.progress.history)
        if self.folder is None:
            return "nothing is kept; with a checkpoint_dir, runs can go on"
        if done == 0:
            return "no epoch was finished, so nothing is kept yet"
        return f"epoch {done} is kept in {self.folder}, and the next run with it goes on from there"
