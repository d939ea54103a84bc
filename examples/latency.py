"""A network that is faster on this machine: a budget in measured time, beside one in parameters."""

import secateur as sc
from secateur.models import build_model, example_inputs

model, inputs = build_model("resnet20"), example_inputs("resnet20")
result = sc.prune(model, inputs, budget={"latency": 0.8, "params": 0.9})
print(result.table())
print(f"{result.after['speedup']:.2f} times as fast, to within {result.after['speedup_iqr']:.2f}")
