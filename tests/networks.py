"""The real networks that tests and benchmarks prune, with random weights, and their example inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

Made = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Network:
    """A network to prune; `build` gives the model and its example inputs."""

    name: str
    build: Callable[[], Made]


def image(size: int) -> torch.Tensor:
    """A random batch of one colour image."""
    return torch.randn(1, 3, size, size)


def _torchvision(name: str, size: int = 96, **options: Any) -> Network:
    def build() -> Made:
        models = pytest.importorskip("torchvision.models")
        return models.get_model(name, weights=None, **options), image(size)

    return Network(f"torchvision:{name}", build)


def _timm(name: str) -> Network:
    def build() -> Made:
        return pytest.importorskip("timm").create_model(name, pretrained=False), image(224)

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


def entries() -> list[Network]:
    """The networks, as benchmarks ask for them."""
    return NETWORKS
