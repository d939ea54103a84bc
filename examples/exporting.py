"""A smaller network as ONNX, run again and compared."""

import torch
from torch import nn

import secateur as sc
from secateur.store.exporting import export

network = nn.Sequential(
    nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)
)
image = torch.randn(1, 3, 8, 8)
small = sc.prune(network, image, budget={"macs": 0.5}).model

record = export(small, image, "small.onnx")
print(record.inputs, record.outputs, record.details)
print(
    f"differs by {record.verification.relative_diff:.0e} of the output's scale at",
    [run["batch"] for run in record.runs],
)
