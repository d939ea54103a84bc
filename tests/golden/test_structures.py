"""Structures of small networks of many families, as texts that a person reviews."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from golden.handwritten import HANDWRITTEN
from golden.listing import listed
from golden.networks import SOURCES

from secateur.models import build_model, example_inputs
from secateur.structure import trace

BUILT_IN = ("lenet5", "lenet300", "vgg9_bn", "resnet20")
CASES = [(source, name) for source, networks in SOURCES.items() for name in networks]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in(name, golden):
    golden(f"built-in-{name}.txt", listed(trace(build_model(name), example_inputs(name))))


@pytest.mark.parametrize("name", HANDWRITTEN)
def test_handwritten(name, golden):
    make, inputs = HANDWRITTEN[name]
    golden(f"handwritten-{name}.txt", listed(trace(make(), inputs)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("source", "name"), CASES, ids=[f"{source}-{name}" for source, name in CASES])
def test_library(source, name, golden):
    """What libraries warn of is theirs; a file says with which version it was made."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed, which timm needs, too")
    library = pytest.importorskip(source, reason=f"{source} is not installed")
    with torch.device("meta") if source == "torchvision" else torch.device("cpu"):
        model, inputs = SOURCES[source][name]()
    text = listed(trace(model, inputs))
    golden(f"{source}-{name}.txt", text, made_with=f"{source} {library.__version__.partition('+')[0]}")
