"""Real networks, half of their channels, with no hint beside example inputs: cut, proved, saved and loaded bit for
bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import NETWORKS, Network, image
from torch import nn
from torch.utils._pytree import tree_flatten

import secateur as sc

LEAST_REMOVED = {"torchvision:shufflenet_v2_x1_0": 0.45}
"""Share of parameters that goes at least; one half unless a channel shuffle keeps the residual streams whole."""


@pytest.fixture(params=NETWORKS, ids=lambda network: network.name)
def network(request: pytest.FixtureRequest) -> Network:
    return request.param


def test_half_the_channels_proved_saved_and_loaded(network: Network, tmp_path: Any) -> None:
    torch.manual_seed(0)
    model, inputs = network.build()
    _make_answers_visible(model)
    model.eval()

    result = sc.prune(model, inputs, budget={"channels": 0.5})

    assert result.verification is not None
    assert result.verification.ok, result.verification
    removed = 1 - result.after["param_count"] / result.before["param_count"]
    assert removed >= LEAST_REMOVED.get(network.name, 0.5)
    assert result.after["param_count"] == sum(parameter.numel() for parameter in result.model.parameters())
    result.save(tmp_path / "saved")
    torch.manual_seed(1)
    loaded = sc.load(tmp_path / "saved", network.build()[0])
    assert all(torch.equal(a, b) for a, b in zip(_outputs(loaded, inputs), _outputs(result.model, inputs), strict=True))


def _make_answers_visible(model: nn.Module) -> None:
    """Some networks start with zeros in their last layer or in layer scales, which would hide every difference."""
    with torch.no_grad():
        for parameter in model.parameters():
            if float(parameter.abs().max()) < 1e-4:
                parameter.uniform_(-0.5, 0.5)


def _outputs(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    with torch.no_grad():
        output = model.eval()(**inputs) if isinstance(inputs, dict) else model.eval()(inputs)
    return [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize(("name", "size"), [("googlenet", 96), ("inception_v3", 299)])
def test_auxiliary_heads_still_train(name: str, size: int) -> None:
    models = pytest.importorskip("torchvision.models")
    model = models.get_model(name, weights=None, init_weights=False, aux_logits=True).eval()

    small = sc.prune(model, image(size), budget={"channels": 0.5}, verify=False).model.train()

    outputs = small(torch.randn(2, 3, size, size))
    heads = [leaf for leaf in tree_flatten(outputs)[0] if isinstance(leaf, torch.Tensor)]
    assert len(heads) > 1
    sum(head.sum() for head in heads).backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
