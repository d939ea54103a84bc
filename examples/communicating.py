"""Training that makes devices need less of each other: ADMM, and a penalty in a loop of one's own."""

import torch
import torch.nn.functional as F

from secateur.data import open_data
from secateur.models import build_model
from secateur.partition import CrossingLasso, CrossingTarget, partition
from secateur.sparse import apply_masks_
from secateur.train import TrainConfig, fit
from secateur.train.methods import ADMM

shape = (1, 28, 28)
model = build_model("lenet5", input_shape=shape)
images = open_data("digits", "train", input_shape=shape, limit=400)
fit(model, images, config=TrainConfig(epochs=3, batch_size=32))
split = partition(model, torch.randn(1, *shape), 3)

target = CrossingTarget(model, split, budget=0.3)
method = ADMM(target, rho=1e-2, growth=1.5, every=10)
fit(model, images, config=TrainConfig(epochs=5, batch_size=32, learning_rate=0.02), methods=[method])
apply_masks_(model, target.masks(dict(model.named_parameters())))
print(f"ADMM: {split.crossings.total()} -> {split.traffic(model).total} bytes a sample")

penalty = CrossingLasso(model, split, strength=1e-3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for batch, labels in images.batches(32, shuffle=True):
    optimizer.zero_grad()
    F.cross_entropy(model(batch), labels).backward()
    penalty.step(optimizer.step)
print(f"the penalty: {split.traffic(model).total} bytes a sample")
