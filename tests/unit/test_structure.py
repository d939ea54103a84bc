"""What tracing says of small networks, and how it is asked."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import secateur as sc
from secateur.spec import SelectorError, Structure, TraceError
from secateur.spec.expr import Concat, Product
from secateur.structure import families, trace
from secateur.structure.rules.table import rule
from secateur.structure.selectors import restrict


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.side = nn.Conv2d(3, 4, 3)
        self.qkv, self.heads = nn.Linear(10, 24), 2
        self.out = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.cat([F.relu(self.norm(self.conv(x))), self.side(x)], 1).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)).mean(1)


@pytest.fixture
def small() -> tuple[nn.Module, Structure]:
    model = Small().eval()
    return model, trace(model, torch.randn(1, 3, 5, 5))


def test_axes_expressions_and_reasons(small):
    _, structure = small
    free = {axis.name: axis.role for axis in structure.prunable}
    assert free == {
        "conv.out": "channels", "side.out": "channels", "qkv.out:1": "heads", "qkv.out:2": "head_width",
    }  # fmt: skip
    assert structure.tensors["qkv.weight"].dims == (
        Product(("qkv.out:0", "qkv.out:1", "qkv.out:2")),
        Concat(("conv.out", "side.out")),
    )
    assert structure.axis["conv.in"].pin.code == "input" and structure.axis["out.out"].pin.code == "output"
    assert sorted(structure.occurrences("conv.out")) == sorted(
        [("conv.weight", 0), ("conv.bias", 0), ("norm.weight", 0), ("norm.bias", 0), ("norm.running_mean", 0),
         ("norm.running_var", 0), ("qkv.weight", 1)]
    )  # fmt: skip
    attributes = {(a.module, a.name): a.size for a in structure.attributes}
    assert attributes["", "heads"] == "qkv.out:1" and attributes["qkv", "in_features"] == Concat(
        ("conv.out", "side.out")
    )


def test_structure_survives_json(small):
    _, structure = small
    assert Structure.from_json(structure.to_json()) == structure


def test_the_structure_does_not_depend_on_the_weights(small):
    model, structure = small
    nn.init.normal_(model.conv.weight)
    assert trace(model, torch.randn(1, 3, 5, 5)).to_json() == structure.to_json()


@pytest.mark.parametrize(("targets", "chosen"), [
    (["conv"], {"conv.out"}),
    (["conv.out"], {"conv.out"}),
    (["re:^(conv|side)$"], {"conv.out", "side.out"}),
    ([nn.Conv2d], {"conv.out", "side.out"}),
    (["Conv2d"], {"conv.out", "side.out"}),
    (["head_width"], {"qkv.out:2"}),
])  # fmt: skip
def test_targets_choose_by_name_pattern_type_and_role(small, targets, chosen):
    model, structure = small
    limited = restrict(structure, model, targets=targets)
    assert {axis.name for axis in limited.axes if axis.chosen} == chosen


def test_what_is_ignored_is_pinned_with_a_reason(small):
    model, structure = small
    limited = restrict(structure, model, ignore=["side"])
    assert limited.axis["side.out"].pin.code == "user" and not limited.axis["side.out"].chosen
    assert limited.axis["conv.out"].pin is None


def test_a_selector_without_a_match_names_the_nearest(small):
    model, structure = small
    with pytest.raises(SelectorError, match=r"'sid' matches no axis.*side"):
        restrict(structure, model, targets=["sid"])


def test_a_size_written_in_the_code_pins_with_a_cure():
    class Literal(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.b(self.a(x).view(-1, 6))

    pinned = trace(Literal(), torch.randn(3, 4)).axis["a.out"].pin
    assert pinned.code == "size-in-code" and "6" in pinned.detail and "-1" in pinned.cure and __file__ in pinned.where


def test_an_unknown_operator_pins_what_it_touches_and_nothing_else():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)

        def forward(self, x):
            x = self.a(x)
            return self.c(torch.relu(self.b(torch.linalg.matrix_exp(x.T @ x) @ torch.ones(6))))

    structure = trace(Odd(), torch.randn(3, 4))
    assert structure.axis["a.out"].pin.code == "operator" and structure.axis["b.out"].pin is None


def test_a_failing_forward_says_where():
    with pytest.raises(TraceError, match=r"forward of Linear failed.*call model\(example_inputs\)"):
        trace(nn.Linear(3, 4), torch.randn(2, 5))


def test_an_operator_has_one_rule():
    with pytest.raises(ValueError, match="has a rule already"):
        rule("aten::mm")(lambda _t, _op: [])


class SizesAsNumbers(torch.nn.Module):
    """Divides by an attribute of torch's own module, by a count of elements, or asks how wide it is."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.a, self.b = torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.Conv2d(16, 16, 3, padding=1)
        self.linear = torch.nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x).relu()
        if self.way == "attribute":
            out = self.b(h) / self.a.out_channels
        elif self.way == "count":
            out = self.b(h) / h[0].numel() * 1000
        elif self.way == "added":
            out = self.b(h) + h.shape[1]
        else:
            out = self.b(h).relu() if h.shape[1] >= 16 else self.b(h).sigmoid()
        return self.linear(out.mean((2, 3)))


@pytest.mark.parametrize("way", ["attribute", "count", "added", "branch"])
def test_numbers_from_sizes_do_not_change_the_answer(way: str) -> None:
    model = SizesAsNumbers(way).eval()
    result = sc.prune(model, torch.randn(1, 3, 16, 16), budget={"macs": 0.5})
    assert result.verification is not None
    assert result.verification.ok, result.verification


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = 2, nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1))


def test_work_per_head_does_not_grow_with_depth(monkeypatch):
    looked_at: list[object] = []
    whole = families._beside_in
    monkeypatch.setattr(families, "_beside_in", lambda *given: looked_at.append(given) or whole(*given))

    def tensors_looked_at(depth):
        looked_at.clear()
        trace(nn.Sequential(*(Attention() for _ in range(depth))), torch.randn(1, 3, 8))
        return len(looked_at)

    assert 0 < tensors_looked_at(8) <= 2 * tensors_looked_at(4)


def test_a_forward_that_fails_only_on_real_values_names_its_line():
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(TraceError, match=r"failed on the example inputs.*index out of range"):
        sc.prune(model, torch.tensor([[1, 7]]), budget={"channels": 0.5})
