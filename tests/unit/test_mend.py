"""Sizes that code uses where no trace of them is left: found by trial."""

import torch
from torch import nn

import secateur


class OutOfSight(nn.Module):
    """Uses the width of its first layer through a function whose sizes are not watched."""

    def __init__(self, width: int | str) -> None:
        super().__init__()
        self.first = nn.Linear(8, 32)
        self.second = nn.Linear(32, 12)
        self.last = nn.Linear(12, 4)
        self.width = width

    def forward(self, x):
        x = torch.relu(self.first(x)).contiguous()
        x = x.as_strided((x.shape[0], int(self.width)), (int(self.width), 1))
        return self.last(torch.relu(self.second(x)))


class Reciprocal(nn.Sequential):
    """Divides a plain number by a size."""

    def forward(self, x):
        return self[1](torch.relu(self[0](x)) * (1.0 / self[0].out_features))


def test_an_attribute_that_turns_out_to_hold_the_size_follows_it():
    result = secateur.prune(OutOfSight(32), torch.randn(3, 8), budget={"channels": 0.5})
    assert result.verification.ok
    assert result.model.width == result.plan.sizes["first.out"] < 32
    assert any("width follows first.out" in note for note in result.structure.notes)


def test_an_axis_that_nothing_mends_stays_whole_and_the_rest_is_cut():
    result = secateur.prune(OutOfSight("32"), torch.randn(3, 8), budget={"channels": 0.5})
    assert result.verification.ok
    assert result.plan.sizes["first.out"] == 32 and result.plan.sizes["second.out"] == 6
    assert result.structure.axis["first.out"].pin.code == "size-in-code"


def test_what_cannot_be_mended_is_said_to_be_unproved():
    result = secateur.prune(Reciprocal(nn.Linear(8, 32), nn.Linear(32, 4)), torch.randn(3, 8), budget={"channels": 0.5})
    assert not result.verification.ok
