"""The same, stage by stage: every stage returns a record that the next one takes."""

import secateur as sc
from secateur.models import build_model, example_inputs

model, inputs = build_model("resnet20"), example_inputs("resnet20")

structure = sc.trace(model, inputs)
scores = sc.score(model, structure, criterion="l1")
plan = sc.allocate(structure, scores, {"macs": 0.5, "params": 0.6}, allocator="global", round_to=2)
small = sc.shrink(model, plan)
proof = sc.verify(model, small, plan, inputs)

print(f"{structure.prunable_share():.0%} of the parameters may be cut")
print(f"layer1.0.conv1 keeps {small.layer1[0].conv1.out_channels} of 16 channels")
print(f"largest difference from the reference: {proof.relative_diff:.0e} of the output's scale")
