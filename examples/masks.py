"""Single weights instead of whole channels: nine of ten are zero, and stay zero during training."""

import secateur as sc
from secateur.data import open_data
from secateur.models import build_model, example_inputs
from secateur.sparse import as_tensors, sparsity
from secateur.train import TrainConfig, evaluate, fit

shape = (1, 32, 32)
train_set, test_set = open_data("digits", "train", input_shape=shape), open_data("digits", "test", input_shape=shape)
model = build_model("lenet5")
fit(model, train_set, config=TrainConfig(epochs=6, batch_size=64, learning_rate=0.05))

result = sc.prune(
    model, example_inputs("lenet5"), granularity="element", budget={"sparsity": 0.9}, criterion="l1", allocator="global"
)
retraining = TrainConfig(epochs=2, batch_size=64, learning_rate=0.02)
fit(result.model, train_set, config=retraining, masks=as_tensors(result.masks))
result.save("sparse")
loaded = sc.load("sparse", build_model("lenet5"))
print(f"sparsity {sparsity(loaded):.2f}, accuracy {evaluate(loaded, test_set)['accuracy']:.3f}")
