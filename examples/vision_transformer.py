"""A vision transformer of your own loses heads and features of its MLPs, one budget for both, and is healed."""

import torch
import torch.nn.functional as F
from torch import nn

import secateur as sc
from secateur.data import open_data
from secateur.train import TrainConfig, evaluate, fit


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, width: int = 32, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.blocks(tokens)).mean(1))


train, test = open_data("digits", "train"), open_data("digits", "test")
model, inputs = ViT(), next(test.batches(1))[0]
fit(model, train, config=TrainConfig(epochs=8, batch_size=32, optimizer="adamw", learning_rate=3e-3))

images = [batch for batch, _ in train.subset(512).batches(128)]
result = sc.prune(model, inputs, budget={"macs": 0.6}, ignore=["patches"], data=images)  # tokens keep their width
for block in result.model.blocks:
    print(f"{block.heads} of 4 heads, {block.up.out_features} of 64 features")
dense, healed = (evaluate(network, test)["accuracy"] for network in (model, result.model))
print(f"accuracy {dense:.3f}, with {result.after['macs'] / result.before['macs']:.0%} of the work {healed:.3f}")
