"""The parts of the loop in a loop of one's own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from secateur.data import open_data
from secateur.models import build_model
from secateur.train import Distillation, nested


class Sparser:
    """A method: after each step, weights move towards zero, and the smallest become zero."""

    def __init__(self, model: nn.Module, amount: float) -> None:
        self.weights = [parameter for parameter in model.parameters() if parameter.dim() > 1]
        self.amount = amount

    def step(self, take: Callable[[], None]) -> None:
        take()
        with torch.no_grad():
            for weight in self.weights:
                weight.copy_(F.softshrink(weight, self.amount))


student, teacher = (build_model("lenet300", input_shape=(1, 8, 8), seed=seed) for seed in (0, 1))
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
distillation, methods = Distillation(student, teacher, alpha=0.1), [Sparser(student, amount=1e-4)]

for images, labels in open_data("digits", "train").batches(64, shuffle=True):
    optimizer.zero_grad()
    logits = student(images)
    loss = distillation.loss(logits, distillation.teach(images), F.cross_entropy(logits, labels))
    loss.backward()
    nested(methods, optimizer.step)

print(f"{sum(int((weight == 0).sum()) for weight in methods[0].weights):,} zeros")
