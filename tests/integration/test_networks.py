"""Real networks, half of their channels, with no hint beside example inputs: cut, proved, saved and loaded bit for
bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_flatten

import secateur as sc

Made = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Network:
    """A network to prune; `build` gives the model and its example inputs."""

    name: str
    build: Callable[[], Made]


def _image(size: int) -> torch.Tensor:
    return torch.randn(1, 3, size, size)


def _torchvision(name: str, size: int = 96, **options: Any) -> Network:
    def build() -> Made:
        models = pytest.importorskip("torchvision.models")
        return models.get_model(name, weights=None, **options), _image(size)

    return Network(f"torchvision:{name}", build)


def _timm(name: str) -> Network:
    def build() -> Made:
        return pytest.importorskip("timm").create_model(name, pretrained=False), _image(224)

    return Network(f"timm:{name}", build)


def _bert() -> Made:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=211, hidden_size=96, num_hidden_layers=3, num_attention_heads=6, intermediate_size=224, num_labels=5
    )
    return transformers.BertForSequenceClassification(config), _tokens(211)


def _llama() -> Made:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=211,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=224,
    )
    return transformers.LlamaForCausalLM(config), {**_tokens(211), "use_cache": False}


def _tokens(vocabulary: int) -> dict[str, Any]:
    ids = torch.randint(5, vocabulary, (2, 12))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


NETWORKS = [
    _torchvision("resnet18"),
    _torchvision("resnet50"),
    _torchvision("resnext50_32x4d"),
    _torchvision("vgg11_bn"),
    _torchvision("mobilenet_v2"),
    _torchvision("mobilenet_v3_large"),
    _torchvision("densenet121"),
    _torchvision("shufflenet_v2_x1_0"),
    _torchvision("squeezenet1_1"),
    _torchvision("efficientnet_b0"),
    _torchvision("convnext_tiny"),
    _torchvision("googlenet", init_weights=False),
    _torchvision("inception_v3", 299, init_weights=False),
    _torchvision("regnet_y_400mf"),
    _torchvision("vit_b_16", 224),
    _torchvision("swin_t", 224),
    _timm("vit_tiny_patch16_224"),
    Network("transformers:bert", _bert),
    Network("transformers:llama-gqa", _llama),
]

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

    small = sc.prune(model, _image(size), budget={"channels": 0.5}, verify=False).model.train()

    outputs = small(torch.randn(2, 3, size, size))
    heads = [leaf for leaf in tree_flatten(outputs)[0] if isinstance(leaf, torch.Tensor)]
    assert len(heads) > 1
    sum(head.sum() for head in heads).backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
