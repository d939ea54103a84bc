"""Single weights: patterns, new values for what stays, and pruning while training."""

import torch

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model, example_inputs
from secateur.sparse import as_tensors, sparsity
from secateur.train import TrainConfig, evaluate, fit
from secateur.train.methods import SparsitySchedule, Weights

shape = (1, 32, 32)
train, test = open_data("digits", "train", input_shape=shape), open_data("digits", "test", input_shape=shape)
torch.manual_seed(0)
model, inputs = build_model("lenet5"), example_inputs("lenet5")
fit(model, train, config=TrainConfig(epochs=6, batch_size=64, learning_rate=0.05))
print(f"dense: accuracy {evaluate(model, test)['accuracy']:.3f}")

# Which weights go together
for granularity in ("element", "2:4", "block:4x1", "kernel", "row", "column"):
    budget = None if granularity == "2:4" else {"sparsity": 0.5}
    result = sc.prune(model, inputs, granularity=granularity, budget=budget)
    print(f"{granularity}: {sparsity(result.model):.3f} zeros, accuracy {evaluate(result.model, test)['accuracy']:.3f}")

# No training: what stays gets new values. recover="second-order" instead of the criterion takes longer, and loses less
most = {"granularity": "element", "budget": {"sparsity": 0.8}}
plain = sc.prune(model, inputs, **most)
healed = sc.prune(model, inputs, criterion="sparsegpt", data=train.subset(256).batches(64), **most)
for name, result in (("magnitude", plain), ("sparsegpt", healed)):
    print(f"{name}, 80 % zeros: accuracy {evaluate(result.model, test)['accuracy']:.3f}")

# Training with masks that stay ...
fit(plain.model, train, config=TrainConfig(epochs=2, batch_size=64), masks=as_tensors(plain.masks))
print(f"trained on: {sparsity(plain.model):.3f} zeros, accuracy {evaluate(plain.model, test)['accuracy']:.3f}")

# ... or with masks that move while the network trains
schedule = SparsitySchedule(Weights(model, sparsity=0.95), steps=100)
config = TrainConfig(epochs=10, batch_size=64, optimizer="adamw", learning_rate=1e-3, weight_decay=0, schedule="cosine")
fit(model, train, config=config, methods=[schedule])
result = sc.prune(model, inputs, granularity="element", budget={"sparsity": 0.95}, allocator="global")
print(f"moving masks: {sparsity(result.model):.3f} zeros, accuracy {evaluate(result.model, test)['accuracy']:.3f}")
