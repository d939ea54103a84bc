"""Prunable modules: the same keys, a masked forward that equals the shrunk network, and masks that come off."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from secateur.models import build_model, example_inputs
from secateur.spec import Plan, PlanError, ScoreError
from secateur.structure import trace
from secateur.surgery import shrink
from secateur.surgery.prunable import (
    Prunable,
    PrunableConv2d,
    PrunableGroupNorm,
    apply_masks,
    apply_plan,
    make_prunable,
    remove_masks,
    shrunk,
)
from secateur.testing.networks import randomise
from secateur.testing.plans import random_plan


class Transformer(nn.Module):
    """One block before whose norms the stream is cut, with embeddings that are looked up and added."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 24), nn.Parameter(torch.randn(1, 5, 24))
        self.norm1, self.qkv, self.proj = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.norm2, self.up, self.down = nn.LayerNorm(24), nn.Linear(24, 40), nn.Linear(40, 24)
        self.norm3, self.head = nn.LayerNorm(24, elementwise_affine=False), nn.Linear(24, 3)

    def forward(self, ids):
        x = self.tokens(ids) + self.places
        q, k, v = self.qkv(self.norm1(x)).view(*x.shape[:2], 3, 4, -1).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        return self.head(self.norm3(x).mean(1))


class GroupNormNet(nn.Module):
    """Group norms, a grouped convolution, a sigmoid that makes zeros into halves, and an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm1 = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.conv, self.norm2 = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.GroupNorm(4, 16)
        self.last, self.norm3 = nn.Conv2d(16, 12, 3), nn.GroupNorm(2, 12, affine=False)
        self.head = nn.Linear(12, 4)

    def forward(self, x):
        x = torch.sigmoid(self.norm1(self.stem(x)))
        x = x + F.silu(self.norm2(self.conv(x)))
        return self.head(self.norm3(self.last(x)).mean((2, 3)))


def _network(name):
    if name == "transformer":
        return Transformer(), torch.randint(0, 11, (2, 5))
    if name == "groupnorm":
        return GroupNormNet(), torch.randn(2, 3, 6, 6)
    return build_model(name), torch.cat([example_inputs(name)[0]] * 2)


@pytest.fixture(params=["lenet5", "resnet20", "transformer", "groupnorm"])
def net(request):
    """Model with random norm statistics, its inputs, and plans of any axes."""
    model, inputs = _network(request.param)
    randomise(model.eval())
    structure = trace(model, inputs)
    return model, inputs, [random_plan(structure, seed, least=2, blocks=False) for seed in range(3)]


@torch.no_grad()
def test_the_masked_forward_equals_that_of_the_shrunk_network(net):
    model, inputs, plans = net
    prunable = make_prunable(model)
    whole = model(inputs)
    for plan in plans:
        apply_plan(prunable, plan)
        small = shrunk(prunable)
        expected = small(inputs)
        assert (prunable(inputs) - expected).abs().max() <= 1e-4 * expected.abs().max()
        assert torch.equal(expected, shrink(model, plan)(inputs))
        assert not any(isinstance(module, Prunable) for module in small.modules())
        assert prunable.state_dict().keys() == model.state_dict().keys()
    remove_masks(prunable)
    assert torch.equal(prunable(inputs), whole)
    assert all(torch.equal(value, prunable.state_dict()[name]) for name, value in model.state_dict().items())


def test_masks_hold_while_the_network_trains(net):
    model, inputs, (plan, *_) = net
    prunable = make_prunable(model)
    apply_plan(prunable, plan)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(prunable.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    prunable.train()(inputs).square().sum().backward()
    optimizer.step()
    after = copy.deepcopy(prunable).eval()
    expected = shrunk(after)(inputs)
    assert (after(inputs) - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert not torch.equal(expected, shrink(model, plan)(inputs))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_cut_channels_are_silent_and_worth_nothing():
    model = build_model("resnet20").eval()
    structure = trace(model, example_inputs("resnet20"))
    prunable = make_prunable(model)
    assert isinstance(prunable.conv1, PrunableConv2d)
    weight = model.layer1[0].conv1.weight
    assert torch.allclose(prunable.layer1[0].conv1.importance("l1"), weight.abs().sum((1, 2, 3)))
    assert torch.allclose(prunable.layer1[0].bn1.importance(), model.layer1[0].bn1.weight.abs())
    assert apply_plan(prunable, Plan(structure, {"layer1.0.conv1.out": tuple(range(2, 16))})) == ()
    outputs = {}
    for name in ("conv1", "bn1"):
        module = getattr(prunable.layer1[0], name)
        module.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
        assert module.importance().nonzero().flatten().tolist() == list(range(2, 16))
    prunable(*example_inputs("resnet20"))
    assert all((out[:, :2] == 0).all() and (out[:, 2:] != 0).any() for out in outputs.values())


def test_a_group_that_goes_as_a_whole():
    norm = PrunableGroupNorm(2, 4)
    norm.set_mask("channel", torch.tensor([False, False, True, True]))
    x = torch.randn(2, 4, 3)
    assert torch.allclose(norm(x)[:, 2:], F.group_norm(x[:, 2:], 1), atol=1e-6) and not norm(x)[:, :2].any()


def test_names_of_what_no_module_masks():
    model, inputs = _network("transformer")
    structure = trace(model, inputs)
    (stream,) = [axis.name for axis in structure.prunable if ("places", 2) in structure.occurrences(axis.name)]
    left = apply_plan(make_prunable(model), Plan(structure, {stream: tuple(range(20))}))
    assert set(left) == {"places"}


@pytest.mark.parametrize(("middle", "message"), [
    (nn.ConvTranspose2d(4, 4, 3), "ConvTranspose2d, which has no prunable form"),
    (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), "which has no prunable form"),
])  # fmt: skip
def test_what_cannot_carry_masks_is_refused_and_nothing_is_set(middle, message):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), middle, nn.Conv2d(4, 2, 1)).eval()
    structure = trace(model, torch.randn(1, 3, 5, 5))
    prunable = make_prunable(model)
    with pytest.raises(PlanError, match=message):
        apply_plan(prunable, Plan(structure, {"0.out": (0, 1)}))
    assert not list(prunable.named_buffers())


def test_fused_layers_are_refused():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Linear(8, 2)).eval()
    structure = trace(model, torch.randn(2, 3, 8))
    with pytest.raises(PlanError, match="may run fused"):
        apply_plan(make_prunable(model), Plan(structure, {"0.linear1.out": (0, 1)}))


def test_refusals_of_the_verbs():
    prunable = make_prunable(build_model("lenet5"))
    with pytest.raises(PlanError, match="carries no masks"):
        shrunk(prunable)
    with pytest.raises(ScoreError, match="l1 or l2"):
        prunable.conv1.importance("taylor")


def test_masks_of_single_weights_in_attentions_and_lookup_tables():
    """Projections apart and together, a shared table, and weights that a fused kernel may read."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(9, 8)
            self.own = nn.MultiheadAttention(8, 2, batch_first=True)
            self.cross = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)
            self.fused = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 9)
            self.head.weight = self.table.weight

        def forward(self, tokens, other):
            x = self.table(tokens)
            x = self.cross(x + self.own(x, x, x)[0], other, other)[0]
            return self.head(self.fused(x))

    inputs = (torch.randint(0, 9, (2, 5)), torch.randn(2, 3, 6))
    model = make_prunable(Net().eval())
    dense = model(*inputs)
    masks = {name: torch.rand(p.shape) > 0.5 for name, p in model.named_parameters() if p.dim() > 1}
    bare = apply_masks(model, masks)
    assert set(bare) == {name for name in masks if name.startswith("fused.")}
    plain = Net().eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name in masks and name not in bare:
                parameter.mul_(masks[name])
    torch.testing.assert_close(model(*inputs), plain(*inputs))
    model(*inputs).sum().backward()
    assert not bool(model.own.in_proj_weight.grad[~masks["own.in_proj_weight"]].any())
    remove_masks(model)
    assert torch.equal(model(*inputs), dense)
    with pytest.raises(PlanError, match="make the masks from this model"):
        apply_masks(model, {"table.weight": torch.ones(3, dtype=torch.bool)})
