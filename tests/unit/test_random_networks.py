"""Networks of random cells, `nas:SEED`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from calling import secateur

import secateur as sc
from secateur.models import build_model, example_inputs, natural_input_shape
from secateur.models.genotype import CONVOLUTIONS, INPUTS, KEEPERS, STEP, Genotype, genotypes
from secateur.models.nas_source import MOST_PARAMETERS
from secateur.spec import ModelError


@pytest.fixture(scope="module")
def drawn() -> list[Genotype]:
    return [next(genotypes(seed)) for seed in range(200)]


def test_a_seed_is_the_same_network_everywhere(drawn: list[Genotype]) -> None:
    assert hashlib.sha256(repr(drawn).encode()).hexdigest()[:16] == "1ee9228c5d6f2e74"


def test_all_that_can_be_drawn_is_drawn(drawn: list[Genotype]) -> None:
    nodes = [node for genotype in drawn for cell in genotype.cells for node in cell.nodes]
    assert {edge.operator for node in nodes for edge in node.edges} == {*CONVOLUTIONS, *KEEPERS}
    assert {node.join for node in nodes} == {cell.join for genotype in drawn for cell in genotype.cells}
    assert {(genotype.norm, genotype.activation, genotype.activates_first) for genotype in drawn} == {
        (norm, activation, first)
        for norm in ("batch", "group", "none")
        for activation in ("relu", "silu", "gelu")
        for first in (True, False)
    }
    assert len(set(drawn)) == len(drawn)


def test_cells_are_graphs_in_which_everything_matters(drawn: list[Genotype]) -> None:
    for genotype in drawn:
        assert any(cell.reduces for cell in genotype.cells)
        for cell in genotype.cells:
            assert 1 in cell.read
            assert {*cell.read, *cell.ends} >= {*range(INPUTS, len(cell.widths))}
            assert all(width % STEP == 0 for width in cell.widths)
            for number, node in enumerate(cell.nodes, INPUTS):
                assert all(edge.source < number for edge in node.edges)
                assert node.join == "concatenation" or {edge.width for edge in node.edges} == {cell.width}


@pytest.mark.parametrize("seed", range(6))
def test_every_parameter_has_a_part_in_the_scores(seed: int) -> None:
    model = build_model(f"nas:{seed}", num_classes=7, input_shape=(2, 13, 10))
    assert sum(parameter.numel() for parameter in build_model(f"nas:{seed}").parameters()) <= MOST_PARAMETERS
    scores = model(torch.randn(4, 2, 13, 10))
    assert scores.shape == (4, 7)
    scores.square().sum().backward()
    assert [name for name, value in model.named_parameters() if value.grad is None] == []


def test_networks_that_are_too_large_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def param_count() -> int:
        return sum(parameter.numel() for parameter in build_model("nas:0").parameters())

    first = param_count()
    monkeypatch.setattr("secateur.models.nas_source.MOST_PARAMETERS", first - 1)
    assert param_count() < first


@pytest.mark.parametrize("seed", [2, 4, 7, 9, 11, 10**17])
def test_they_lose_half_of_their_multiply_accumulates_in_one_call(seed: int) -> None:
    model, inputs = build_model(f"nas:{seed}").eval(), example_inputs(f"nas:{seed}")
    result = sc.prune(model, inputs, budget={"macs": 0.5}, criterion="l2")
    assert result.verification is not None
    assert result.verification.ok
    assert 0.45 < result.after["macs"] / result.before["macs"] <= 0.5


def test_they_are_pruned_on_the_command_line_and_loaded_by_their_seed(tmp_path: Path) -> None:
    asked = ("--criterion", "l2", "--budget", "macs=0.5", "--input-shape", "1,16,16", "--num-classes", 4)
    found = secateur("prune", "nas:17", *asked, "--out", tmp_path / "small", "--json")
    assert found.code == 0, found.err
    assert sc.load(tmp_path / "small")(torch.zeros(2, 1, 16, 16)).shape == (2, 4)


@pytest.mark.parametrize("seed", ["", "-1", "1.5", "seventeen", "9" * 20])
def test_other_seeds_are_refused(seed: str) -> None:
    for look in (build_model, natural_input_shape):
        with pytest.raises(ModelError, match=r"expected a whole number from 0 up, as in nas:17"):
            look(f"nas:{seed}")
