"""`secateur inspect`: one screen, complete JSON, and a graph that Graphviz reads."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from calling import secateur
from torch import nn

import secateur as sc
from secateur.cli.drawing import drawn
from secateur.cli.overview import COLUMNS, LINES, overview, screen
from secateur.models import build_model, example_inputs
from secateur.spec.structure import Pin


def residual_network() -> sc.Structure:
    return sc.trace(build_model("resnet56"), example_inputs("resnet56"))


def transformer() -> sc.Structure:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return sc.trace(nn.TransformerEncoder(layer, 24), torch.randn(1, 5, 32))


def many_reasons() -> sc.Structure:
    structure = residual_network()
    long = "because of something that takes a great many words to say, more than there are columns on a screen"
    axes = tuple(replace(axis, pin=Pin("indexed", f"{n} {long}", cure=long)) for n, axis in enumerate(structure.axes))
    return replace(structure, axes=axes, notes=(f"{long}\n{long}",) * 30)


@pytest.mark.parametrize("network", [residual_network, transformer, many_reasons])
def test_the_answer_is_one_screen(network):
    lines = screen(overview(network(), "some")).splitlines()
    assert len(lines) <= LINES == 40
    assert max(map(len, lines)) <= COLUMNS == 110


def test_the_screen_says_what_can_be_cut_and_what_not():
    text = secateur("inspect", "resnet20").out
    assert re.search(r"channels +14 +8\.\.64 +100\.0% +by default", text)
    assert re.search(r"blocks +7 +1 +73\.8% +on request: --granularity blocks", text)
    assert re.search(r"output: it is a dimension of the model's output +1 +0\.2% +0\.0%\n +linear\.out \[10\]", text)
    assert "linear.out [10] output" in secateur("inspect", "resnet20", "--why").out


def test_reasons_that_keep_most_out_of_reach_come_first_with_place_and_cure():
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = nn.Linear(4, 30), nn.Linear(30, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x).view(-1, 30)  # the number that keeps the widest layer whole
            return self.head(torch.relu(self.second(x)))

    record = overview(sc.trace(Half(), torch.randn(2, 4)), "half")
    first = record["whole"][0]
    assert (first["code"], first["axes"], first["example"]) == ("size-in-code", ["first.out"], "first.out")
    assert "test_inspect.py" in first["where"]
    assert "write -1" in first["cure"]
    assert first["unreached_share"] == pytest.approx(150 / 357)
    assert [reason["unreached_share"] for reason in record["whole"]][1] == pytest.approx(120 / 357)
    assert "more reasons" not in screen(record)
    assert "--why lists every axis" in screen(overview(many_reasons(), "many"))


def test_json_holds_costs_and_reasons():
    record = secateur("inspect", "resnet20", "--json").record
    assert record["param_count"] == 269_722
    assert {reason["code"] for reason in record["whole"]} >= {"output"}
    assert sum(kind["count"] for kind in record["cut"]) == record["prunable_axes"]


def test_the_whole_structure_as_json_has_the_places_of_every_axis():
    found = secateur("inspect", "resnet20", "--format", "json")
    structure = sc.trace(build_model("resnet20"), example_inputs("resnet20"))
    assert sc.Structure.from_json(found.out) == structure
    for axis in structure.axes:
        assert [tuple(place) for place in found.record["places"][axis.name]] == list(structure.occurrences(axis.name))


STRING = r'"(?:[^"\\]|\\.)*"'
VALUE = rf"(?:{STRING}|[A-Za-z0-9]+)"
ATTRIBUTES = rf"\[[a-z]+={VALUE}(?:, [a-z]+={VALUE})*\]"
NODE = re.compile(rf"([am]\d+) {ATTRIBUTES}")
EDGE = re.compile(rf"([am]\d+) -> ([am]\d+) {ATTRIBUTES}")
OPEN = re.compile(rf"(?:digraph|subgraph) {STRING} {{")
SETTING = re.compile(rf"[a-z]+={VALUE}(?:; [a-z]+={VALUE})*|(?:node|edge) {ATTRIBUTES}")


def check_dot(text: str) -> tuple[set[str], list[tuple[str, str]]]:
    """Nodes and edges of a graph in the part of Graphviz's language that we write; fails on anything else."""
    nodes: set[str] = set()
    edges: list[tuple[str, str]] = []
    depth = 0
    for line in map(str.strip, text.splitlines()):
        if found := EDGE.fullmatch(line):
            edges.append((found[1], found[2]))
        elif found := NODE.fullmatch(line):
            assert found[1] not in nodes
            nodes.add(found[1])
        else:
            assert OPEN.fullmatch(line) or SETTING.fullmatch(line) or line == "}", line
        depth += bool(OPEN.fullmatch(line)) - (line == "}")
        assert depth >= 0
    assert depth == 0
    assert {end for edge in edges for end in edge} <= nodes
    return nodes, edges


@pytest.mark.parametrize("network", [residual_network, transformer, many_reasons])
def test_the_graph_is_one_that_graphviz_reads(network):
    nodes, edges = check_dot(drawn(network()))
    assert len(edges) >= len(nodes) - 1


def test_the_graph_joins_makers_and_readers_along_an_axis(tmp_path: Path):
    text = secateur("inspect", "lenet5", "--format", "dot").out
    assert re.search(r'm\d+ -> m\d+ \[label="84 channels", color=steelblue', text)
    assert re.search(r'label="fc3.out\\n10 channels, whole: output", color=gray60', text)
    check_dot(text)
    file = tmp_path / "lenet5.dot"
    assert secateur("inspect", "lenet5", "--format", "dot", "--out", file).code == 0
    assert file.read_text() == text


def test_names_cannot_break_the_graph():
    strange = nn.Sequential()
    strange.add_module('say "hi"; }\n', nn.Linear(4, 6))
    strange.add_module("back\\", nn.Linear(6, 2))
    text = drawn(sc.trace(strange, torch.randn(1, 4)))
    check_dot(text)
    assert r"say \"hi\"; }\n" in text
