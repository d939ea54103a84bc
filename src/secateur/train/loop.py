"""The training loop: plain PyTorch, the same result for the same options, whether or not it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from secateur.data import ImageSet
from secateur.sparse import Masks, keeping
from secateur.spec import SecateurError
from secateur.train import checkpoint
from secateur.train.config import TrainConfig
from secateur.train.outputs import logits_of
from secateur.train.progress import Reporter, reporting
from secateur.train.schedule import rate

Record = dict[str, Any]
"""`epoch` (from 1), mean `loss` and `accuracy` on the training batches, `learning_rate` of the last step, `steps`
so far, `seconds`."""


def fit(
    model: nn.Module,
    data: ImageSet,
    *,
    config: TrainConfig,
    masks: Masks | None = None,
    after_step: Callable[[nn.Module], object] | None = None,
    on_epoch: Callable[[Record], object] | None = None,
    checkpoint_dir: str | Path | None = None,
) -> list[Record]:
    """Train the model in place on `config.device` and return one record per epoch.

    `masks` holds removed weights at zero, with their gradients and what the optimizer remembers of them.
    `after_step(model)` runs after each optimizer step, `on_epoch(record)` after each epoch and its checkpoint. With
    `checkpoint_dir`, a run that was interrupted goes on after the last whole epoch and ends with the same weights as
    one that was not. Batches that are not full are left out where there is a full one. The model ends in train mode,
    and the global random state is left as it was. Raises SecateurError at the first loss that is not finite,
    ModelError where the model returns no class scores, StoreError for a checkpoint that does not fit, PlanError for
    masks that do not.
    """
    run = _Run(model.to(config.device), data, config, after_step)
    folder = None if checkpoint_dir is None else Path(checkpoint_dir)
    if folder is not None:
        run.progress = checkpoint.resume(folder, model, run.optimizer, config)
    if masks is not None:
        keeping(model, masks, run.optimizer)
    with torch.random.fork_rng(), reporting(epochs=run.epochs, steps=run.steps, done=run.progress.steps) as reporter:
        for epoch in range(len(run.progress.history), run.epochs):
            record = run.epoch(epoch, reporter)
            if folder is not None:
                checkpoint.save(folder, model, run.optimizer, config, run.progress)
            reporter.epoch(record)
            if on_epoch is not None:
                on_epoch(record)
    return list(run.progress.history)


class _Run:
    """One call of `fit`."""

    def __init__(
        self, model: nn.Module, data: ImageSet, config: TrainConfig, after_step: Callable[[nn.Module], object] | None
    ) -> None:
        self.model = model
        self.data = data
        self.config = config
        self.after_step = after_step
        self.optimizer = _optimizer(model, config)
        self.progress = checkpoint.Progress()
        per_epoch = max(1, len(data) // config.batch_size)
        self.steps = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
        self.epochs = math.ceil(self.steps / per_epoch)

    def epoch(self, epoch: int, reporter: Reporter) -> Record:
        """Train for one epoch (from 0) and add its record to the progress."""
        started = time.monotonic()
        seed = self.config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)  # dropout
        self.model.train()
        loss, correct, seen, steps = 0.0, 0, 0, self.progress.steps
        for images, labels in self._batches(seed):
            if steps == self.steps:
                break
            batch_loss, batch_correct = self._step(images, labels, steps)
            loss, correct, seen = loss + batch_loss * len(labels), correct + batch_correct, seen + len(labels)
            steps += 1
            reporter.step(batch_loss)
        record = {
            "epoch": epoch + 1,
            "loss": loss / seen,
            "accuracy": correct / seen,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "steps": steps,
            "seconds": time.monotonic() - started,
        }
        self.progress = replace(self.progress, steps=steps, history=(*self.progress.history, record))
        return record

    def _batches(self, seed: int) -> Any:
        return self.data.batches(
            self.config.batch_size,
            shuffle=True,
            seed=seed,
            augment=self.config.augment,
            drop_last=len(self.data) >= self.config.batch_size,
            device=self.config.device,
        )

    def _step(self, images: Tensor, labels: Tensor, step: int) -> tuple[float, int]:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate(self.config.schedule, step, self.steps)
        logits = logits_of(self.model(images)).float()
        loss = F.cross_entropy(logits, labels)
        if not math.isfinite(loss.item()):
            raise SecateurError(
                f"training stopped at step {step + 1} of {self.steps}: the loss is {loss.item()}; lower learning_rate "
                f"(now {self.config.learning_rate}), or look for broken weights"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        if self.after_step is not None:
            self.after_step(self.model)
        return loss.item(), int((logits.argmax(1) == labels).sum())


def _optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise SecateurError("nothing to train: no parameter of the model requires a gradient")
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return SGD(parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
