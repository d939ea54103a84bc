"""A language model of transformers with two zeros in every four weights, which transformers loads by itself."""

from transformers import AutoModelForCausalLM

import secateur as sc
from secateur.data import open_text
from secateur.models import load_tokenizer
from secateur.train import evaluate

model = AutoModelForCausalLM.from_pretrained("llama")  # any folder with config.json, weights and tokenizer.json
tokenizer = load_tokenizer("hf:llama")
train = open_text("corpus", tokenizer.encode, "train", length=tokenizer.length())
test = open_text("corpus", tokenizer.encode, "test", length=tokenizer.length())

decoder = {"targets": ["Linear"], "ignore": ["lm_head"]}  # the head and the embedding stay whole
inputs, data = {"input_ids": train.tokens_NL[:1]}, train.subset(128).batches(1)
result = sc.prune(model, inputs, granularity="2:4", criterion="sparsegpt", data=data, **decoder)
result.save("llama-2-4")

stock = AutoModelForCausalLM.from_pretrained("llama-2-4")  # needs no Secateur
for name, network in (("dense", model), ("2:4", stock)):
    print(f"{name}: perplexity {evaluate(network, test)['perplexity']:.2f}")
