"""Model cards: the code in them runs, and they say what was done, what it costs, and the proof."""

from __future__ import annotations

import hashlib
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import secateur
from small_llama import llama
from torch import nn

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.spec import RunRecord
from secateur.store import save_folder

DIGITS = ("--data", "digits", "--limit", 200)
FACTORY = """
from torch import nn

def net(num_classes=10):
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, num_classes))
"""


class Wide(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def card(folder: Path) -> str:
    return (folder / "README.md").read_text()


def loaded_by_card(folder: Path, monkeypatch: pytest.MonkeyPatch, **known: Any) -> Iterator[nn.Module]:
    """What each block of code in the card makes, run as it stands, in the folder."""
    monkeypatch.chdir(folder)
    for code in re.findall(r"```python\n(.*?)```", card(folder), re.DOTALL):
        assert len([line for line in code.splitlines() if line]) <= 3
        Path("loading.py").write_text(code)
        yield runpy.run_path("loading.py", known)["model"]


def columns(folder: Path) -> list[str]:
    head = next(line for line in card(folder).splitlines() if line.startswith("| | "))
    return [cell.strip() for cell in head.split("|")[2:-1]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classroom flow on few images, a folder a step."""
    there = tmp_path_factory.mktemp("runs")
    for arguments in (
        ("train", "lenet5", *DIGITS, "--epochs", 1, "--out", there / "base"),
        ("prune", there / "base", *DIGITS, "--budget", "channels=0.5", "--out", there / "pruned"),
        ("finetune", there / "pruned", *DIGITS, "--epochs", 1, "--out", there / "tuned"),
        ("prune", there / "tuned", "--granularity", "element", "--budget", "sparsity=0.5", "--out", there / "sparse"),
        ("partition", there / "tuned", *DIGITS, "--devices", 2, "--budget", "bytes=0.5", "--out", there / "apart"),
    ):
        found = secateur(*arguments)
        assert found.code == 0, found.err
    return there


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("base", ["trained"]),
        ("pruned", ["trained", "cut", "healed"]),
        ("tuned", ["trained", "cut", "healed", "retrained"]),
        ("sparse", ["trained", "cut", "healed", "retrained", "cut"]),
        ("apart/model", ["trained", "cut", "healed", "retrained", "cut", "healed"]),
    ],
)
def test_the_table_goes_from_the_first_network_to_this_one(
    name: str, steps: list[str], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert columns(runs / name) == steps
    assert "| accuracy |" in card(runs / name)
    (model,) = loaded_by_card(runs / name, monkeypatch)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_the_proof_of_the_cut_stays_with_what_was_retrained(runs: Path) -> None:
    for name in ("pruned", "tuned", "sparse"):
        assert "Verified by `prune`" in card(runs / name)
    assert "Verified" not in card(runs / "base")


def test_the_hashes_are_those_of_the_files(runs: Path) -> None:
    found = dict(re.findall(r"\| (\S+) \| `([0-9a-f]{64})` \|", card(runs / "sparse")))
    assert {"model.safetensors", "masks.safetensors", "plan.json", "run.json", "recipe.yaml"} == set(found)
    for file, digest in found.items():
        assert hashlib.sha256((runs / "sparse" / file).read_bytes()).hexdigest() == digest


def test_rounded_values_are_told(runs: Path, tmp_path: Path) -> None:
    assert secateur("pack", runs / "tuned", "-o", tmp_path / "small.sct", "--values", "int8").code == 0
    assert secateur("unpack", tmp_path / "small.sct", "-o", tmp_path / "again").code == 0
    text = card(tmp_path / "again")
    assert "rounded to int8" in text
    assert hashlib.sha256((tmp_path / "again" / "model.safetensors").read_bytes()).hexdigest() in text


def test_the_way_here_is_told(runs: Path) -> None:
    text = card(runs / "sparse")
    for step in ("1. `train`: model lenet5, data digits", "2. `prune`: ", "budget channels=0.5", "3. `finetune`: "):
        assert step in text
    assert re.search(r"Of [\d,]+ weights in 5 tensors [\d,]+ are zero \(pattern element", text)
    assert "built as `lenet5`" in text
    assert torch.__version__ in text


def test_what_crosses_between_devices_is_told(runs: Path) -> None:
    before, after = (int(found.replace(",", "")) for found in re.findall(r"link_bytes .*?([\d,]+) \|  \| ([\d,]+)",
                     card(runs / "apart" / "model"))[0])  # fmt: skip
    assert after <= 0.5 * before


def test_a_factory_of_somebodys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_my_own.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    called = ("prune", "nets_of_my_own:net", "--input-shape", "1,8,8", "--num-classes", 7, "--budget", "macs=0.5")
    assert secateur(*called, "--out", tmp_path / "out").code == 0
    (model,) = loaded_by_card(tmp_path / "out", monkeypatch)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


def test_a_class_of_somebodys_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sc.prune(Wide(), torch.randn(1, 4), budget={"macs": 0.5})
    folder = result.save(tmp_path / "out")
    monkeypatch.setattr(Wide, "__module__", "__main__")  # a script's own class has no module to import it from
    script = result.save(tmp_path / "script")
    assert (f"import {Wide.__name__}" in card(folder), f"import {Wide.__name__}" in card(script)) == (True, False)
    for model in (*loaded_by_card(folder, monkeypatch), *loaded_by_card(script, monkeypatch, Wide=Wide)):
        assert torch.equal(model(torch.ones(1, 4)), result.model.eval()(torch.ones(1, 4)))


def test_a_network_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = {"input_ids": torch.randint(256, (1, 8))}
    result = sc.prune(llama(), tokens, budget={"params": 0.8})
    folder = result.save(tmp_path / "out")
    expected = result.model(**tokens).logits
    found = list(loaded_by_card(folder, monkeypatch))
    assert len(found) == 2
    for model in found:
        assert torch.equal(model.eval()(**tokens).logits, expected)


def test_blocks_that_left_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sc.prune(build_model("resnet20"), example_inputs("resnet20"), budget={"macs": 0.7}, granularity="blocks")
    folder = result.save(tmp_path / "out", source={"name": "resnet20"})
    assert f"`{result.plan.removed_blocks[0].module}`" in card(folder)
    (model,) = loaded_by_card(folder, monkeypatch)
    image = example_inputs("resnet20")[0]
    assert torch.equal(model(image), result.model.eval()(image))


def test_what_is_not_verified_says_so(tmp_path: Path) -> None:
    worst = sc.Verification(float("inf"), float("inf"), False, detail="shapes differ")
    folder = save_folder(build_model("lenet5"), tmp_path / "out", run=RunRecord("prune", "m", verification=worst))
    assert "NOT verified by `prune`" in card(folder)
