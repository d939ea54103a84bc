"""Selection of entries against loops, attributes, masks, and refusals."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import nn

from secateur.spec import Axis, Plan, PlanError, Structure
from secateur.spec.expr import Concat, Product, index_along
from secateur.structure import trace
from secateur.surgery import masked, shrink, structured_masks, verify
from secateur.surgery.select import kept_entries, removed_mask
from secateur.surgery.verify import compared
from secateur.testing import check_rule

AXES = (Axis("g", 3), Axis("w", 4, within="g"), Axis("v", 2), Axis("f", 3))


def _plan(**kept):
    return Plan(Structure("net", "x", AXES, {}), kept)


def _stays(dims, position, plan):
    """By the definition: every axis at this entry keeps its index there (in the row of the parent's index)."""
    found = [
        (axis, int(index))
        for expr, place in zip(dims, position, strict=True)
        for axis in ("g", "w", "v", "f")
        if (index := index_along(expr, axis, plan.structure.sizes)[place]) >= 0
    ]
    for axis, index in found:
        if axis in plan.kept:
            row = plan.arrays[axis]
            if index not in (row[dict(found)["g"]] if row.ndim == 2 else row):
                return False
    return True


CASES = [
    ((Product(("g", "w")), 2), {"w": ((0, 1), (1, 3), (2, 3))}),
    ((Product(("g", "w")), "f"), {"g": (0, 2), "w": ((0, 1), (1, 3), (2, 3)), "f": (1,)}),
    ((Product(("g", "v")), "w"), {"w": ((0, 1), (1, 3), (2, 3))}),
    ((Product(("g", "v")), "w", 2), {"g": (1, 2), "v": (1,), "w": ((0,), (3,), (1,))}),
    (("w", "f", "g"), {"g": (0, 1), "w": ((0, 1, 3), (1, 2, 3), (0, 1, 2)), "f": (0, 2)}),
    ((Product(("g", Concat(("w", "v")))), 1), {"g": (1,), "w": ((0, 1), (1, 3), (2, 3)), "v": (0,)}),
    ((Concat(("f", 2, "v")), Product(("v", "f"))), {"f": (0, 2), "v": (1,)}),
]


@pytest.mark.parametrize(("dims", "kept"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_kept_entries_and_masks_against_a_loop(dims, kept):
    plan = _plan(**kept)
    shape = tuple(len(index_along(expr, "g", plan.structure.sizes)) for expr in dims)
    tensor = torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape)
    expected = [float(tensor[place]) for place in product(*map(range, shape)) if _stays(dims, place, plan)]
    small = kept_entries(tensor, dims, plan)
    # Where indices differ by parent, the entries still come in the order of the original.
    if dims[0] == "w":  # put the parent first: then entries come in the order of the original
        expected = [
            float(tensor[p])
            for p in sorted(product(*map(range, shape)), key=lambda p: (p[2], *p))
            if _stays(dims, p, plan)
        ]
        small = small.permute(2, 0, 1)
    assert small.flatten().tolist() == expected
    removed = removed_mask(shape, dims, plan, torch.device("cpu")).expand(shape)
    assert sorted(tensor[~removed].tolist()) == sorted(expected)


def test_nothing_cut_is_the_same_tensor():
    tensor = torch.randn(12, 2)
    assert kept_entries(tensor, (Product(("g", "w")), 2), _plan()) is tensor


@pytest.mark.parametrize(("kept", "message"), [
    ({"x": (0,)}, "does not have"),
    ({"f": ()}, "at least 1"),
    ({"f": (0, 3)}, r"within 0\.\.2"),
    ({"f": (0, 10**30)}, r"within 0\.\.2"),
    ({"f": (2, 1)}, "ascend"),
    ({"f": (1, 1)}, "ascend"),
    ({"w": ((0,), (1,))}, "2 rows"),
    ({"w": ((0,), (1,), (1, 2))}, "same number"),
    ({"f": ((0,), (1,), (2,))}, "3 rows"),
])  # fmt: skip
def test_plans_that_make_no_sense_are_refused(kept, message):
    with pytest.raises(PlanError, match=message):
        _plan(**kept)


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    return model, trace(model, torch.randn(1, 3, 5, 5))


def test_shrunk_tensors_are_the_kept_rows_and_columns(net):
    model, structure = net
    small = shrink(model, Plan(structure, {"0.out": (0, 3)}))
    assert torch.equal(small[0].weight, model[0].weight[[0, 3]]) and torch.equal(
        small[3].weight, model[3].weight[:, [0, 3]]
    )
    assert torch.equal(small[1].running_var, model[1].running_var[[0, 3]])
    assert (small[0].out_channels, small[1].num_features, small[3].in_channels) == (2, 2, 2)
    assert model[0].out_channels == 4 and model[0].weight.shape[0] == 4


def test_networks_without_memory_are_cut_the_same(net):
    model, structure = net
    plan = Plan(structure, {"0.out": (0, 3)})
    small = shrink(model, plan)
    bare = shrink(model.to("meta"), plan)
    assert [tensor.shape for tensor in bare.state_dict().values()] == [t.shape for t in small.state_dict().values()]


def test_masks_are_ones_and_zeros_of_the_parameters(net):
    model, structure = net
    masks = structured_masks(model, Plan(structure, {"0.out": (0, 3)}))
    assert set(masks) == {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight"}
    assert masks["0.bias"].tolist() == [1, 0, 0, 1] and masks["3.weight"][:, :, 0, 0].tolist() == [[1, 0, 0, 1]] * 2


def test_masks_come_off_even_when_the_block_fails(net):
    model, structure = net
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), masked(model, Plan(structure, {"0.out": (0,)})):
        assert model[0].weight[1].abs().sum() == 0
        raise KeyError
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_wrong_cut_does_not_pass(net):
    model, structure = net
    plan, inputs = Plan(structure, {"0.out": (0, 3)}), torch.randn(1, 3, 5, 5)
    small = shrink(model, plan)
    assert verify(model, small, plan, inputs).ok
    with torch.no_grad():
        small[3].weight.copy_(model[3].weight[:, [3, 0]])
    assert not verify(model, small, plan, inputs).ok
    with torch.no_grad():
        small[3].weight.fill_(float("nan"))
    assert not verify(model, small, plan, inputs).ok


def test_a_plan_for_another_model_is_refused(net):
    _, structure = net
    with pytest.raises(PlanError, match=r"'0\.weight' has shape \(5, 3, 3, 3\), expected \(4, 3, 3, 3\)"):
        shrink(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 1)), Plan(structure, {}))


class _Chain(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.a, self.b, self.function = nn.Linear(3, 6), nn.Linear(6, 2), function

    def forward(self, x):
        return self.b(self.function(self.a(x)))


@pytest.mark.parametrize("function", [
    torch.sigmoid, lambda x: x.cumsum(-1), lambda x: x.softmax(-1), lambda x: x / x.var(-1, keepdim=True),
    lambda x: x - x.std(-1)[:, None], lambda x: x * x.prod(-1, keepdim=True), lambda x: x - x.amin(-1, keepdim=True),
    lambda x: x * torch.var_mean(x, -1, keepdim=True)[1], lambda x: x * x.norm(1, -1, keepdim=True),
    lambda x: x.log_softmax(-1), lambda x: x + x.logsumexp(-1, keepdim=True), lambda x: x.cumprod(-1),
    lambda x: x * (x > 0).any(-1, keepdim=True), lambda x: torch.where(x > 0, x, -x),
    lambda x: x.max(-1, keepdim=True)[0] - x,
])  # fmt: skip
def test_rules_keep_their_contract(function):
    torch.manual_seed(0)
    model = _Chain(function)
    check = (torch.randn(4, 3),)
    if torch.isfinite(model(*check)).all():
        check_rule(model, check, free=("a.weight",), count=4)


def test_positions_of_the_largest_entry_pin_the_axis():
    """They are numbers of the original; the shrunk model would count anew."""
    structure = trace(_Chain(lambda x: x * x.argmax(-1, keepdim=True)), torch.randn(4, 3))
    assert structure.axis["a.out"].pin is not None


def test_masked_weight_norm_is_finite():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 2)).eval()
    structure, inputs = trace(model, torch.randn(2, 4)), torch.randn(2, 4)
    (axis,) = structure.prunable
    plan = Plan(structure, {axis.name: (0, 2)})
    with torch.no_grad(), masked(model, plan) as zeroed:
        assert torch.allclose(zeroed(inputs), shrink(model, plan)(inputs), atol=1e-5)


class _TwoScales(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.o = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(5, 3)

    def forward(self, x):
        q, k = self.q(x), self.k(x)
        first = (q * q.shape[-1] ** -0.5) @ k.mT
        second = (q * q.shape[-1] ** -0.25) @ k.mT
        return self.o(first + second)


def test_two_scales_on_the_same_rows():
    model, inputs = _TwoScales().eval(), torch.randn(2, 5, 8)
    structure = trace(model, inputs)
    plan = Plan(structure, {axis.name: tuple(range(4)) for axis in structure.prunable})
    assert verify(model, shrink(model, plan), plan, inputs).ok


@pytest.mark.parametrize(
    ("expected", "got", "ok"),
    [
        ([1.0, math.inf], [1.0, math.inf], True),
        ([1.0, math.nan], [1.0, math.nan], True),
        ([1.0, math.inf], [1.0, -math.inf], False),
        ([1.0, math.nan], [1.0, math.inf], False),
        ([1.0, math.nan], [1.0, 0.0], False),
        ([math.nan, math.nan], [math.nan, math.nan], False),
    ],
)
def test_what_is_not_finite_is_compared_too(expected: list[float], got: list[float], *, ok: bool) -> None:
    """And where nothing is finite, nothing was compared."""
    assert compared([torch.tensor(expected)], [torch.tensor(got)], 1e-6).ok is ok
