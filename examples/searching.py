"""A search from Python: your own network, and what else was seen on the way."""

from pathlib import Path

from secateur.data import open_data
from secateur.models import build_model, example_inputs
from secateur.search.netadapt import Search, SearchConfig
from secateur.spec import parse_budgets
from secateur.train import TrainConfig, fit

shape = (1, 28, 28)
model, inputs = build_model("lenet5", input_shape=shape), example_inputs("lenet5", input_shape=shape)
images = open_data("digits", "train", input_shape=shape, limit=400)
fit(model, images, config=TrainConfig(epochs=3, batch_size=32))

config = SearchConfig(block_ratio=0.2, short_steps=5, short_training=TrainConfig(batch_size=32, learning_rate=0.02))
result = Search(model, inputs, parse_budgets("macs=0.6"), images, Path("search-run"), config).run()
for row in result.rows:
    print(row["iteration"], row["block"], row["before"], "->", row["after"], f"{row['accuracy']:.3f}")
print(f"{result.after['macs'] / result.before['macs']:.0%} of the work, saved to {result.folder}")
print("the front:", [(row["macs"], round(row["accuracy"], 3)) for row in result.front])
