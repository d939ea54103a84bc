"""The three LeNets that the pruning literature uses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.models.named import MODELS, NamedModel, Shape
from secateur.spec import ModelError


class LeNet5(nn.Module):
    """Two 5x5 convolutions and three linear layers; `(N, C, H, W)` to `(N, num_classes)`."""

    def __init__(self, num_classes: int, input_shape: Shape) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * _after_two_convs(height) * _after_two_convs(width), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5Caffe(nn.Module):
    """LeNet-5 as Caffe ships it: 20 and 50 filters, one hidden layer; `(N, C, H, W)` to `(N, num_classes)`."""

    def __init__(self, num_classes: int, input_shape: Shape) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * _after_two_convs(height) * _after_two_convs(width), 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = torch.flatten(x, 1)
        return self.fc2(F.relu(self.fc1(x)))


class LeNet300(nn.Module):
    """LeNet-300-100: linear layers alone; `(N, C, H, W)` to `(N, num_classes)`."""

    def __init__(self, num_classes: int, input_shape: Shape) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.fc1 = nn.Linear(channels * height * width, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


def _after_two_convs(size: int) -> int:
    """Height or width after two rounds of a 5x5 convolution without padding and a pool of 2."""
    left = ((size - 4) // 2 - 4) // 2
    if left < 1:
        raise ModelError(f"LeNet-5 got images of {size} pixels a side, needs at least 16; choose a larger input_shape")
    return left


MODELS.register("lenet5", "LeNet-5 (6-16-120-84) for 1x32x32 images")(NamedModel(LeNet5, (1, 32, 32)))
MODELS.register("lenet5-caffe", "LeNet-5 as in Caffe (20-50-500) for 1x28x28 images")(
    NamedModel(LeNet5Caffe, (1, 28, 28))
)
MODELS.register("lenet300", "LeNet-300-100, linear layers only, for 1x28x28 images")(NamedModel(LeNet300, (1, 28, 28)))
