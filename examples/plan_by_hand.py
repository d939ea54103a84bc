"""Decide yourself what stays: a plan by hand, its exact price, its effect by masks, and the cut in place."""

import torch

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.surgery.prunable import apply_plan

model, (image,) = build_model("lenet5").eval(), example_inputs("lenet5")
structure: sc.Structure = sc.trace(model, image)
plan = sc.Plan(structure, {"conv1.out": (0, 2, 4), "fc1.out": tuple(range(0, 120, 2))})

macs = sc.CostModel(structure, "macs")
print(f"{macs.at(plan.sizes):,} of {macs(macs.full):,} multiply-accumulates stay")

with sc.masked(model, plan):  # zeros in place, for the length of the block
    masked = model(image)
prunable = sc.make_prunable(model)  # modules that carry masks, for as long as you like
apply_plan(prunable, plan)
small = sc.shrink(model, plan)
for output in (masked, prunable(image)):
    torch.testing.assert_close(output, small(image), rtol=1e-4, atol=1e-5)
proof: sc.Verification = sc.verify(model, small, plan, image)
print(f"verified: {proof.ok}")

sc.shrink_(model, plan)  # the model itself, which has three filters in its first layer now
print(model.conv1)
