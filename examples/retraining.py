"""A pruned network learns from the dense one."""

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model
from secateur.train import Distillation, JsonLines, TrainConfig, evaluate, fit

train, test = open_data("digits", "train"), open_data("digits", "test")
inputs = next(test.batches(1))[0]

dense = build_model("lenet300", input_shape=(1, 8, 8))
fit(dense, train, config=TrainConfig(epochs=10, batch_size=64, learning_rate=0.05))
pruned = sc.prune(dense, inputs, budget={"macs": 0.2}).model
print(f"dense {evaluate(dense, test)['accuracy']:.3f}, pruned {evaluate(pruned, test)['accuracy']:.3f}")

config = TrainConfig(epochs=4, batch_size=64, learning_rate=0.02, schedule="cosine", label_smoothing=0.1, ema=0.9)
teacher = Distillation(pruned, dense, alpha=0.5, temperature=4)
fit(pruned, train, config=config, distillation=teacher, on_epoch=JsonLines("log.jsonl"), checkpoint_dir="checkpoint")
print(f"taught {evaluate(pruned, test)['accuracy']:.3f}")
