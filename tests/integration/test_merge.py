"""Votes of coupled layers: whatever the policy, the budget is met and the network is proved."""

from __future__ import annotations

import pytest
from calling import secateur
from torch import nn

import secateur as sc
from secateur.models import build_model, example_inputs


@pytest.mark.parametrize("merge", ["score", "and", "or"])
@pytest.mark.parametrize("criterion", ["l1", "fpgm"])
def test_a_residual_network_meets_its_budget(merge, criterion):
    model, inputs = build_model("resnet20").eval(), example_inputs("resnet20")

    result = sc.prune(model, inputs, budget={"macs": 0.5}, criterion=criterion, merge=merge)

    assert result.verification is not None
    assert result.verification.ok
    assert 0.48 < result.after["macs"] / result.before["macs"] <= 0.5


def test_policies_differ_where_layers_disagree():
    model, inputs = build_model("resnet20").eval(), example_inputs("resnet20")
    kept = {
        merge: sc.prune(model, inputs, budget={"channels": 0.5}, criterion="l1", merge=merge, verify=False).plan.kept
        for merge in ("score", "and", "or")
    }
    assert kept["and"] != kept["score"]
    assert kept["or"] != kept["and"]


def test_an_unknown_policy_is_refused():
    model, inputs = build_model("resnet20").eval(), example_inputs("resnet20")
    with pytest.raises(sc.SecateurError, match="unknown merge policy 'nand'"):
        sc.prune(model, inputs, budget={"macs": 0.5}, merge="nand")


def test_the_command_line_takes_them_all(tmp_path):
    found = secateur(
        "prune",
        "resnet20",
        "--criterion",
        "fpgm",
        "--merge",
        "and",
        "--allocator",
        "adaptive",
        "--share",
        "layer1=0.5",
        "--profile",
        "cpu",
        "--budget",
        "macs=0.6",
        "--out",
        tmp_path / "out",
        "--json",
    )
    assert found.code == 0
    assert found.record["verification"]["ok"]
    small = sc.load(tmp_path / "out")
    assert all(module.out_channels % 8 == 0 for module in small.modules() if isinstance(module, nn.Conv2d))
    assert small.layer1[0].conv1.out_channels >= small.layer3[0].conv1.out_channels / 4
    assert secateur("prune", "lenet5", "--budget", "macs=0.5", "--share", "conv1", "--allocator", "adaptive").code == 2
    assert secateur("prune", "lenet5", "--budget", "macs=0.5", "--profile", "abacus").code == 2
