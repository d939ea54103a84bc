"""Single weights instead of whole channels: nine of ten are zero, and stay zero during training."""

from secateur.data import open_data
from secateur.models import build_model
from secateur.sparse import apply_masks_, keeping, magnitude_masks, sparsity
from secateur.train import TrainConfig, evaluate, fit

shape = (1, 32, 32)
train_set, test_set = open_data("digits", "train", input_shape=shape), open_data("digits", "test", input_shape=shape)
model = build_model("lenet5")
fit(model, train_set, config=TrainConfig(epochs=6, batch_size=64, learning_rate=0.05))

masks = magnitude_masks(model, sparsity=0.9)
apply_masks_(model, masks)
fit(model, train_set, config=TrainConfig(epochs=2, batch_size=64, learning_rate=0.02), after_step=keeping(model, masks))
print(f"sparsity {sparsity(model):.2f}, accuracy {evaluate(model, test_set)['accuracy']:.3f}")
