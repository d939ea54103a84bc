"""Schemas: what a network's says, what an edited one does, and what is refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from calling import secateur
from torch import nn
from torch.nn import functional as F

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.spec import SchemaError
from secateur.structure import trace
from secateur.structure.schema import apply_schema, base_schema, diff_schemas, json_schema
from secateur.testing.networks import random_network

LEFT, RIGHT = "scale.in:0", "scale.in:1"
"""The two branches: axes are named after the first parameter in which they occur."""
DOCS = Path(__file__).parents[2] / "docs"


class Net(nn.Module):
    """A residual group, concatenated branches, a depthwise and a grouped convolution, heads, and a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.back = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1)
        self.depth, self.scale = nn.Conv2d(10, 10, 1, groups=10), nn.Parameter(torch.ones(1, 10, 1, 1))
        self.wide, self.grouped = nn.Conv2d(10, 12, 1), nn.Conv2d(12, 12, 1, groups=3)
        self.heads, self.qkv, self.proj, self.head = 4, nn.Linear(12, 72), nn.Linear(24, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = self.norm(self.stem(x))
        x = F.relu(x + self.back(x))
        x = self.depth(torch.cat([self.left(x), self.right(x)], 1)) * self.scale
        x = self.grouped(self.wide(x)).flatten(2).mT
        q, k, v = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.head(self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))


@pytest.fixture(scope="module")
def structure():
    return trace(Net().eval(), torch.randn(1, 3, 6, 6))


@pytest.fixture
def schema(structure):
    return base_schema(structure)


def test_each_output_lists_what_leaves_with_it(schema):
    both = ["norm_bn", "stem_out", "back_out", "back_in", "left_in", "right_in"]
    assert schema == {
        "stem_out": both,
        "back_out": both,
        "left_out": ["left_out", "depth_out", "wide_in", "scale"],
        "right_out": ["right_out", "depth_out", "wide_in", "scale"],
        "depth_out": ["left_out", "right_out", "depth_out", "wide_in", "scale"],
        "wide_out": ["grouped_in"],
        "grouped_out": ["qkv_in"],
        "qkv_out": ["proj_in"],
        "proj_out": ["head_in"],
        "head_out": [],
    }


@pytest.mark.parametrize("seed", range(12))
def test_an_unedited_schema_changes_nothing_and_names_every_axis(seed):
    network = random_network(seed)
    structure = trace(network.model, network.inputs)
    schema = base_schema(structure, prefix="module.")
    assert apply_schema(structure, schema) == structure
    emptied = apply_schema(structure, dict.fromkeys(schema, ()))
    assert not any(axis.chosen for axis in emptied.axes)
    assert emptied.notes == structure.notes


def _whole(structure, edited):
    """Axes that the edited schema keeps whole, those that it newly chooses, and its notes."""
    made = apply_schema(structure, edited)
    pairs = list(zip(structure.axes, made.axes, strict=True))
    whole = {new.name for old, new in pairs if new.pin != old.pin}
    return whole, {new.name for old, new in pairs if new.chosen > old.chosen}, made.notes


def test_an_empty_or_missing_group_stays_whole(structure, schema):
    assert _whole(structure, {**schema, "left_out": [], "depth_out": []})[0] == {LEFT, RIGHT}
    assert _whole(structure, {**schema, "stem_out": [], "back_out": []}) == ({"stem.out"}, set(), ())
    del schema["wide_out"]
    assert _whole(structure, schema) == ({"wide.out:1"}, set(), ())


def test_a_forbidden_layer_keeps_its_group_whole_and_a_note_says_which(structure, schema):
    del schema["back_out"]
    whole, _, notes = _whole(structure, schema)
    assert (whole, notes) == ({"stem.out"}, ("schema: stem.out stays whole: the schema has no key back_out for it",))
    whole, _, (note,) = _whole(structure, {**base_schema(structure), "wide_out": ["wide_out"]})
    assert (whole, note) == ({"wide.out:1"}, "schema: wide.out:1 stays whole: key wide_out leaves out grouped_in")


def test_concatenated_branches_and_factors_can_be_told_apart(structure, schema):
    restricted = {**schema, "depth_out": ["right_out", "depth_out", "wide_in", "scale"]}
    assert _whole(structure, restricted)[0] == {LEFT}
    parts = {**schema, f"depth_out[{RIGHT}]": ["right_out", "wide_in", "scale"]}
    del parts["depth_out"]
    assert _whole(structure, parts)[0] == {LEFT}
    heads, width = (axis.name for axis in structure.axes if axis.role in ("heads", "head_width"))
    schema["qkv_out[head_width]"] = schema.pop("qkv_out")
    assert _whole(structure, schema)[:2] == ({heads}, {width})


REFUSED = {
    "unknown key": ({"steam_out": []}, r"'steam_out'.* no such output.*stem_out"),
    "unknown member": ({"wide_out": ["grouped_inn"]}, r"wide_out: the network has no 'grouped_inn'.*grouped_in"),
    "foreign member": (
        {"wide_out": ["grouped_in", "qkv_in"]},
        r"wide_out: 'qkv_in' cannot leave with it: .*grouped\.out:1.*leaves with grouped_out",
    ),
    "other size": (
        {"stem_out": ["stem_out", "proj_in"]},
        r"stem_out: 'proj_in' .*\(4 heads\).* along stem\.out \(8 ch",
    ),
    "output of the model": ({"head_out": ["head_out"]}, r"head_out: .*must stay whole: .*model's output"),
    "split group": (
        {"stem_out": ["norm_bn", "stem_out"], "back_out": ["back_out", "left_in"]},
        r"stem_out and back_out cannot be split: .*addition.*one axis stem\.out",
    ),
    "unknown part": ({"qkv_out[tails]": ["proj_in"]}, r"'qkv_out\[tails\]'.* no such part; it has: .*4 heads"),
    "pinned part": ({"qkv_out[qkv.out:0]": ["proj_in"]}, r"must stay whole"),
    "whole and part": ({"qkv_out[heads]": ["proj_in"]}, r"both 'qkv_out' and its part"),
    "listed twice": ({"stem_out": ["norm_bn", "norm_bn"]}, r"'stem_out': .*'norm_bn' is listed twice"),
    "key of a norm": ({"norm_bn": []}, r"'norm_bn'.*expected a JSON object"),
    "not names": ({"stem_out": [1]}, r"0 of 'stem_out'.*valid string"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_contradictions_are_refused_with_their_reason(structure, schema, case):
    edits, message = REFUSED[case]
    with pytest.raises(SchemaError, match=message):
        apply_schema(structure, {**schema, **edits})


@pytest.mark.parametrize(("text", "message"), [
    ('{"stem_out": [], "stem_out": []}', "twice"), ("{", "cannot read"), ("[1]", "the top level"),
    ('{"stem_out": {"a": 1}}', "at 'stem_out'"), (100_000 * "[", "cannot read"), (10_000 * "9", "cannot read"),
], ids=["twice", "cut off", "list", "object", "deep", "giant number"])  # fmt: skip
def test_files_that_are_no_schema(structure, tmp_path, text, message):
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(SchemaError, match=message):
        apply_schema(structure, tmp_path / "schema.json")


def test_differences(schema):
    edited = {**schema, "wide_out": ["grouped_in", "wide_out"], "qkv_out": [], "new_out": []}
    edited["depth_out"] = list(reversed(schema["depth_out"]))
    del edited["head_out"]
    found = [str(difference) for difference in diff_schemas(schema, edited)]
    assert found == ["wide_out: +wide_out", "qkv_out: -proj_in", "- head_out", "+ new_out"]
    assert diff_schemas(schema, schema) == ()


def test_embeddings_and_recurrent_layers_have_keys():
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.lstm, self.head = nn.Embedding(7, 8), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, ids):
            return self.head(self.lstm(self.tokens(ids))[0])

    structure = trace(Text().eval(), torch.zeros(1, 4, dtype=torch.int64))
    schema = base_schema(structure)
    assert schema["tokens_out"] == ["lstm.weight_ih_l0_in"]
    assert _whole(structure, {})[0] == {axis.name for axis in structure.axes if axis.chosen}
    assert all(schema.values()) is False and list(schema.values()).count([]) == 1


def test_prune_follows_a_schema(tmp_path):
    model, inputs = build_model("lenet5"), example_inputs("lenet5")
    schema = sc.base_schema(sc.trace(model, inputs), prefix="module.")
    result = sc.prune(model, inputs, budget={"macs": 0.6}, schema={**schema, "module.conv1_out": []})
    assert result.verification.ok
    assert (result.model.conv1.out_channels, result.model.conv2.out_channels < 16) == (6, True)
    file, edited = tmp_path / "edited.json", {**schema, "module.conv2_out": ["module.conv2_out"]}
    file.write_text(json.dumps(edited))
    found = secateur("prune", "lenet5", "--budget", "macs=0.6", "--schema", file, "--out", tmp_path / "out", "--json")
    assert found.record["verification"]["ok"]
    assert "conv2.out stays whole: key module.conv2_out leaves out module.fc1_in" in found.err
    assert sc.load(tmp_path / "out").conv2.out_channels == 16


def test_inspect_writes_a_schema_and_prints_what_differs(tmp_path):
    file = tmp_path / "schema.json"
    assert secateur("inspect", "lenet5", "--format", "keti", "--prefix", "module.", "--out", file).code == 0
    schema = json.loads(file.read_text())
    assert list(schema) == [f"module.{layer}_out" for layer in ("conv1", "conv2", "fc1", "fc2", "fc3")]
    assert secateur("inspect", "lenet5", "--diff", file).out == "nothing differs\n"
    file.write_text(json.dumps({**schema, "module.fc1_out": []}))
    assert secateur("inspect", "lenet5", "--diff", file).out == "module.fc1_out: -module.fc2_in\n"
    assert secateur("inspect", "lenet5", "--prefix", "module.").code == 2
    assert secateur("inspect", "lenet5", "--diff", file, "--format", "keti").code == 2
    assert secateur("inspect", "lenet5", "--out", tmp_path / "no" / "where.json").code == 2


def test_the_json_schema_in_docs_is_current():
    assert (DOCS / "schema.json").read_text() == json_schema()
