"""A network over three devices: what crosses, with half of it pruned away, run by one process for each device."""

from pathlib import Path

import torch

from secateur.data import open_data
from secateur.models import build_model
from secateur.partition import Topology, partition, prune_crossings, run_split
from secateur.train import TrainConfig, evaluate, fit

shape = (1, 28, 28)
model = build_model("lenet5", input_shape=shape)
images, test = (open_data("digits", split, input_shape=shape, limit=400) for split in ("train", "test"))
fit(model, images, config=TrainConfig(epochs=5, batch_size=32))
batches = [batch for batch, _ in images.batches(50)]

split = partition(model, batches[0], Topology(devices=3), strategy="auto", data=batches)
result = prune_crossings(model, split, 0.5, batches, evaluate=lambda network: evaluate(network, test)["accuracy"])
print(f"{result.bytes_before} -> {result.bytes_after} bytes a sample", result.stages)
print(split.traffic(result.model).bytes // 50)

if __name__ == "__main__":
    split.save(Path("apart"), result.model)
    run = run_split(Path("apart"), [torch.cat(batches[:2])])
    print(f"{run.samples} samples, {run.bytes.sum()} bytes, {run.seconds:.2f} s")
