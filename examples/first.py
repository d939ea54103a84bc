"""Halve the multiply-accumulates of a network of your own."""

import torch
from torch import nn

import secateur as sc


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        self.linear = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))
        x = x + torch.relu(self.conv2(x))  # a residual connection: both convolutions lose the same channels
        return self.linear(x.mean((2, 3)))


result = sc.prune(Net(), torch.randn(1, 3, 32, 32), budget={"macs": 0.5})
print(result.table())
result.save("small")
model = sc.load("small", Net())  # a plain, smaller nn.Module
