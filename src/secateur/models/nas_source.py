"""`nas:SEED`: a small network of cells drawn at random, such as an architecture search meets."""

from __future__ import annotations

import re

import torch
from torch import nn

from secateur.models.cells import CellNetwork
from secateur.models.genotype import Genotype, genotypes
from secateur.models.inputs import Inputs, random_image
from secateur.models.named import Shape
from secateur.spec import ModelError

SHAPE: Shape = (3, 32, 32)
NUM_CLASSES = 10
MOST_PARAMETERS = 500_000
"""With that shape and so many classes."""
SEED = re.compile(r"[0-9]{1,18}")


def build(name: str, num_classes: int | None, shape: Shape | None) -> nn.Module:
    """The network of that seed with random weights; images may be of any size."""
    return CellNetwork(_genotype(name), num_classes or NUM_CLASSES, (shape or SHAPE)[0])


def input_shape(name: str) -> Shape:
    """That of CIFAR, for every seed."""
    _seed(name)
    return SHAPE


def example_inputs(name: str, shape: Shape | None) -> Inputs:
    """One random image."""
    return (random_image(shape or input_shape(name)),)


def _genotype(name: str) -> Genotype:
    """The first of the seed that is small enough."""
    return next(found for found in genotypes(_seed(name)) if _param_count(found) <= MOST_PARAMETERS)


def _param_count(genotype: Genotype) -> int:
    with torch.device("meta"):
        network = CellNetwork(genotype, NUM_CLASSES, SHAPE[0])
    return sum(parameter.numel() for parameter in network.parameters())


def _seed(name: str) -> int:
    if not SEED.fullmatch(name):
        raise ModelError(f"nas:{name}: got {name!r} for a seed, expected a whole number from 0 up, as in nas:17")
    return int(name)
