"""The dependency schema of a network: look at it, lock a layer, give it back."""

import secateur as sc
from secateur.models import build_model, example_inputs

model, inputs = build_model("resnet20"), example_inputs("resnet20")
schema = sc.base_schema(sc.trace(model, inputs))
print(schema["layer1.0.conv1_out"])

schema["layer1.0.conv1_out"] = []  # this layer stays whole
result = sc.prune(model, inputs, budget={"macs": 0.6}, schema=schema)
print(result.model.layer1[0].conv1, result.model.layer1[1].conv1)

schema["layer1.1.conv1_out"].append("layer3.0.conv1_in")  # nothing ties these
try:
    sc.prune(model, inputs, budget={"macs": 0.6}, schema=schema)
except sc.SecateurError as error:
    print(error)
