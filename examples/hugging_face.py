"""A network of transformers comes back as one that transformers loads by itself."""

import torch
from transformers import MistralConfig, MistralForCausalLM

import secateur as sc

config = MistralConfig(
    vocab_size=256,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=4,
)
model = MistralForCausalLM(config)  # or MistralForCausalLM.from_pretrained("path/to/weights")
ids = torch.randint(3, 256, (1, 16))
inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}

result = sc.prune(model, inputs, budget={"macs": 0.5})
print(result.table())
print(result.notes or "its configuration says its sizes")
result.save("small")

stock = MistralForCausalLM.from_pretrained("small")  # needs no Secateur
again = sc.load("small")  # the same, with the plan that made it
print(f"hidden size {stock.config.hidden_size}, {stock.config.num_attention_heads} heads")
