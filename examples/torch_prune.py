"""The PyTorch pruning tutorial on LeNet, each step beside ours."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import secateur as sc
from secateur.sparse import as_tensors
from secateur.sparse.torch_prune import permanent, read_masks, sparsities, write_masks_
from secateur.sparse.zeros import plan_from_zeros


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 5 * 5, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


image = torch.randn(1, 1, 32, 32)
net = LeNet()
net(image)

# prune.random_unstructured(net.conv1, "weight", amount=0.3)
sc.prune(net, image, granularity="element", targets=["conv1"], budget={"sparsity": 0.3}, criterion="random")
# prune.l1_unstructured(net.conv1, "weight", amount=0.3)
sc.prune(net, image, granularity="element", targets=["conv1"], budget={"sparsity": 0.3}, criterion="l1")
# prune.ln_structured(net.conv1, "weight", amount=0.5, n=2, dim=0)
sc.prune(net, image, granularity="row", targets=["conv1"], budget={"sparsity": 0.5}, criterion="l2")
# for each module: prune.l1_unstructured(module, "weight", amount=0.2 for Conv2d, 0.4 for Linear)
sc.prune(net, image, granularity="element", allocator="fixed", shares={"Conv2d": 0.2, "Linear": 0.4})
# prune.global_unstructured(parameters, pruning_method=prune.L1Unstructured, amount=0.2)
result = sc.prune(net, image, granularity="element", budget={"sparsity": 0.2}, allocator="global")
# again, on the result: what is gone stays gone. Their amounts are shares of what is left, ours of the whole
result = sc.prune(result.model, image, granularity="element", budget={"sparsity": 0.5}, allocator="global")
# prune.remove(module, "weight"): nothing to remove, the model is plain; the masks are beside it
print({name: f"{1 - float(mask.float().mean()):.0%} gone" for name, mask in as_tensors(result.masks).items()})
# torch.save(net.state_dict(), ...) holds weight_orig and weight_mask; a folder holds the weights and one bit a weight
result.save("pruned")
net = sc.load("pruned", LeNet())

# A network that carries their masks is read, counted, made plain, and cut where whole channels are zero ...
for name in ("weight", "bias"):
    mask = torch.ones_like(getattr(net.conv2, name))
    mask[::2] = 0
    prune.custom_from_mask(net.conv2, name, mask)
print({name: f"{share:.0%} zero" for name, share in sparsities(net).items()})
plain = permanent(net)
small = sc.shrink(plain, plan_from_zeros(plain, sc.trace(plain, image), image))
difference = (small(image) - net(image)).abs().max()
print(f"conv2 has {small.conv2.out_channels} of 16 channels; the outputs differ by {difference:.0e}")
# ... and ours are written as theirs
print(f"{len(read_masks(write_masks_(LeNet(), as_tensors(result.masks))))} tensors with weight_orig and weight_mask")
