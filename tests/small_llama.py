"""A small Llama whose tokenizer reads bytes, as a folder of Hugging Face."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. "


def llama(**changes: object) -> nn.Module:
    """With random weights, in eval mode."""
    transformers = pytest.importorskip("transformers")
    sizes = {
        "vocab_size": 256,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**sizes, **changes})).eval()


def write_llama(folder: Path) -> None:
    """Configuration, weights and tokenizer."""
    llama().save_pretrained(folder)  # type: ignore[operator]
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(symbols)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
