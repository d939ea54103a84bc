"""Small networks of transformers with random weights, and inputs for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

ENCODER = {
    "vocab_size": 53,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
}
DECODER = {**ENCODER, "num_attention_heads": 6, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
VISION = {"image_size": 32, "patch_size": 8, "num_labels": 5}
T5 = {"vocab_size": 53, "d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 2, "num_heads": 4, "eos_token_id": 1}

NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "mistral": ("MistralForCausalLM", "MistralConfig", DECODER),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", DECODER),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {**DECODER, "head_dim": 8}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**DECODER, "num_local_experts": 3}),
    "bert": ("BertForSequenceClassification", "BertConfig", {**ENCODER, "num_labels": 5}),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        {
            "vocab_size": 53,
            "d_model": 48,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 80,
            "decoder_ffn_dim": 80,
            "max_position_embeddings": 16,
        },
    ),
    "t5": ("T5ForConditionalGeneration", "T5Config", {**T5, "pad_token_id": 0, "decoder_start_token_id": 0}),
    "vit": ("ViTForImageClassification", "ViTConfig", {**ENCODER, **VISION}),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 12, "hidden_sizes": [16, 24], "depths": [1, 1], "layer_type": "basic", "num_labels": 5},
    ),
}


def build(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """The network in eval mode and its keyword inputs."""
    transformers = pytest.importorskip("transformers")
    model_class, config_class, options = NETWORKS[name]
    known = {key: value for key, value in options.items() if name != "vit" or key not in ("vocab_size", "pad_token_id")}
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**known)).eval()
    if model.main_input_name == "pixel_values":
        return model, {"pixel_values": torch.randn(2, 3, 32, 32)}
    ids = torch.randint(3, 53, (2, 9))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "is_encoder_decoder", False):
        return model, {**inputs, "decoder_input_ids": ids[:, :5].clone(), "use_cache": False}
    return model, {**inputs, "use_cache": False} if "CausalLM" in model_class else inputs
