"""Pruning while training: in a loop of one's own, and by `fit`."""

import torch
import torch.nn.functional as F

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model
from secateur.sparse import sparsity
from secateur.train import TrainConfig, evaluate, fit
from secateur.train.methods import (
    ADMM,
    Channels,
    GroupLasso,
    HardConcreteGates,
    SparsitySchedule,
    Weights,
    cubic,
    lottery_tickets,
)

train, test = open_data("digits", "train"), open_data("digits", "test")
inputs = torch.zeros(1, *train.input_shape)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("lenet300", input_shape=train.input_shape)


# In a loop of one's own: one line where optimizer.step() was
model = network()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
method = SparsitySchedule(Weights(model, sparsity=0.9), curve=cubic, steps=80)
for epoch in range(6):
    for images, labels in train.batches(64, shuffle=True, seed=epoch):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        method.step(optimizer.step)
print(f"a schedule: {sparsity(model):.3f} zeros, accuracy {evaluate(model, test)['accuracy']:.3f}")

# The same by fit; several nest. Channels that the structure finds, and a penalty on all that leaves with them
model = network()
structure = sc.trace(model, inputs)
target = Channels(model, structure, budget={"macs": 0.5})
config = TrainConfig(epochs=4, batch_size=64, learning_rate=0.05)
fit(model, train, config=config, methods=[ADMM(target, rho=0.1, every=8), GroupLasso(model, structure)])
small = sc.shrink(model, target.plan())
print(f"ADMM on channels: {evaluate(model, test)['accuracy']:.3f}, cut: {evaluate(small, test)['accuracy']:.3f}")

# Gates act in the forward, too, and are folded into the weights in the end
model = network()
gates = HardConcreteGates(model, sc.trace(model, inputs))
fit(model, train, config=config, methods=[gates])
gates.finish()
result = sc.prune(model, inputs, budget={"macs": 0.5}, criterion=gates, allocator="global")
print(f"gates: {evaluate(model, test)['accuracy']:.3f}, cut: {evaluate(result.model, test)['accuracy']:.3f}")

# Tickets train several times
model = network()
for ticket in lottery_tickets(model, train, config=config, rounds=2, share=0.5, rewind_to=10):
    print(f"round {ticket.round}: {ticket.sparsity:.2f} zeros, accuracy {evaluate(model, test)['accuracy']:.3f}")
