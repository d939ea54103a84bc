"""A criterion of your own in five lines, under a name that Python, recipes and the command line know."""

import torch

import secateur as sc
from secateur.models import build_model, example_inputs


@sc.CRITERIA.register("largest", "largest absolute weight of the group")
def largest(question):
    return question.reduce(lambda weight: weight.abs() ** 8, power=1 / 8)


model, inputs = build_model("lenet5"), example_inputs("lenet5")
config = sc.PruneConfig(criterion="largest", allocator="global", min_keep=2, ignore=["first"])
result: sc.PruneResult = sc.prune(model, inputs, budget=sc.Budget("params", 0.3), config=config)
scores: sc.Scores = sc.score(model, result.structure, criterion="largest")
print(result.table())
print(f"the lowest score of conv2 is {torch.as_tensor(scores.values['conv2.out']).min():.2f}")
timing = sc.measure_latency(result.model, inputs, repeats=5)
print(f"one forward takes {timing['latency_ms']:.2f} ms on {timing['threads']} thread(s)")
