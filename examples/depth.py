"""Whole residual blocks leave: those first that change least what passes through them, measured on images."""

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model, example_inputs

model, inputs = build_model("resnet20", input_shape=(1, 32, 32)), example_inputs("resnet20", input_shape=(1, 32, 32))
images = open_data("digits", "train", input_shape=(1, 32, 32), limit=128).batches(64)

result = sc.prune(model, inputs, budget={"macs": 0.7}, granularity="blocks", criterion="block-influence", data=images)
print(result.table())
print("gone:", ", ".join(block.module for block in result.plan.removed_blocks))

both = sc.prune(model, inputs, budget={"macs": 0.3}, granularity=["channels", "blocks"])  # one budget for both
print(both.table())
