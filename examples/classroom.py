"""The classroom 2x2: channels or single weights, retrained or not, with a quarter of the parameters."""

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model
from secateur.sparse import as_tensors
from secateur.train import TrainConfig, evaluate, fit

train, test = (open_data("digits", split, input_shape=(1, 32, 32)) for split in ("train", "test"))
model = build_model("lenet5")
fit(model, train, config=TrainConfig(epochs=8, batch_size=64, learning_rate=0.05))
print(f"dense: accuracy {evaluate(model, test)['accuracy']:.3f}")

inputs = next(test.batches(1))[0]
channels = sc.prune(model, inputs, criterion="l1", budget={"params": 0.25})  # a smaller network
weights = sc.prune(model, inputs, granularity="element", allocator="global", budget={"sparsity": 0.75})  # zeros in it

for name, result in (("channels", channels), ("single weights", weights)):
    cut = evaluate(result.model, test)["accuracy"]
    fit(result.model, train, config=TrainConfig(epochs=3, batch_size=64), masks=as_tensors(result.masks))
    retrained = evaluate(result.model, test)["accuracy"]
    print(f"{name}: accuracy {cut:.3f}, retrained {retrained:.3f}; {result.after['macs']:,} multiply-accumulates")
