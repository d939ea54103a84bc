"""Half of the multiply-accumulates go, and what is left is fitted again: no labels, no training."""

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model, example_inputs

model, inputs = build_model("lenet5", input_shape=(1, 32, 32)), example_inputs("lenet5", input_shape=(1, 32, 32))
calibration = [images for images, _ in open_data("digits", "train", input_shape=(1, 32, 32), limit=256).batches(64)]

result = sc.prune(model, inputs, budget={"macs": 0.5}, data=calibration)
print(result.table())
