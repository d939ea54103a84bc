"""One optimizer step: in parts, in less precision, over several processes, with methods around it, as asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer

from secateur.spec import SecateurError
from secateur.train import processes
from secateur.train.averaging import MovingAverage
from secateur.train.batches import Batch
from secateur.train.config import TrainConfig
from secateur.train.distillation import Distillation
from secateur.train.method import Method, nested
from secateur.train.objective import Labels, loss_and_right
from secateur.train.outputs import logits_of

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Holds all that steps change: model, optimizer, moving average, scale of the loss."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        methods: Sequence[Method],
        distillation: Distillation | None,
        labels: Labels,
    ) -> None:
        """The model lies where it is to be trained. Raises SecateurError where nothing of it requires a gradient."""
        self.model = model
        self.config = config
        self.methods = methods
        self.distillation = distillation
        self.labels = labels
        self.optimizer = _optimizer(model, config)
        self.average = MovingAverage(model, config.ema) if config.ema > 0 else None
        self.scaler = torch.amp.GradScaler(torch.device(config.device).type, enabled=config.precision == "fp16")

    @cached_property
    def _network(self) -> nn.Module:
        """Not before the first step: gradients are averaged as the weights lie in memory then."""
        return processes.joined(self.model, torch.device(self.config.device))

    def step(self, batch: Batch, learning_rate: float) -> tuple[float, float]:
        """Mean loss and accuracy of this process's part of a batch, before the step.

        Raises SecateurError where the loss is not finite; the step is not taken then.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss, right = 0.0, 0.0
        parts = batch.parts(self.config.accumulate)
        for number, part in enumerate(parts, 1):
            with self._sharing(last=number == len(parts)):
                part_loss, part_right = self._backward(part, len(part) / len(batch))
            loss, right = loss + part_loss, right + part_right
        self.scaler.unscale_(self.optimizer)
        nested(self.methods, self._take)
        self.scaler.update()
        if self.average is not None:
            self.average.update()
        return loss, right

    def _take(self) -> None:
        self.scaler.step(self.optimizer)  # which leaves it out where gradients overflow in fp16

    def _backward(self, part: Batch, share: float) -> tuple[float, float]:
        """Add the gradients of a part of the batch; its share of the loss and of the accuracy."""
        with self._autocast():
            logits = logits_of(self._network(part.images))
            loss, right = loss_and_right(logits.float(), part, self.distillation, self.labels)
        if not math.isfinite(loss.item()):
            raise SecateurError(f"the loss is {loss.item()}; lower learning_rate, or look for broken weights")
        self.scaler.scale(loss * share).backward()
        return share * loss.item(), share * right.mean().item()

    def _autocast(self) -> AbstractContextManager[object]:
        dtype = DTYPES.get(self.config.precision)
        return nullcontext() if dtype is None else torch.autocast(torch.device(self.config.device).type, dtype)

    def _sharing(self, *, last: bool) -> AbstractContextManager[object]:
        """Processes average their gradients after the last part of a batch only."""
        network = self._network
        return network.no_sync() if isinstance(network, DistributedDataParallel) and not last else nullcontext()


def _optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise SecateurError("nothing to train: no parameter of the model requires a gradient")
    if config.optimizer == "adamw":
        return AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return SGD(parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
