"""Saved folders: bit for bit, whole or not at all, and nothing untrusted."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import listing
from torch import nn

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.spec import PlanError, RunRecord, StoreError, Tie
from secateur.store import history_of, read_manifest, read_run, remember_history, save_folder

SOURCE = {"name": "lenet5"}


def small_network(seed: int = 0) -> sc.PruneResult:
    return sc.prune(build_model("lenet5", seed=seed), example_inputs("lenet5"), budget={"channels": 0.5})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_network().save(tmp_path_factory.mktemp("store") / "small", source=SOURCE)


def test_loaded_equals_saved_bit_for_bit(saved: Path) -> None:
    made, loaded = small_network().model, sc.load(saved)
    for (name, first), (again, second) in zip(made.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == again
        assert torch.equal(first, second)
    assert not loaded.training
    assert (loaded.conv1.out_channels, loaded.fc1.in_features) == (3, 200)
    assert history_of(loaded) == history_of(small_network().model)


def test_a_fresh_instance_is_turned_into_the_saved_model(tmp_path: Path) -> None:
    small_network().save(tmp_path / "anonymous")
    with pytest.raises(StoreError, match="does not say how to build"):
        sc.load(tmp_path / "anonymous")
    assert sc.load(tmp_path / "anonymous", build_model("lenet5", seed=9)).conv1.out_channels == 3


def test_cutting_twice_is_replayed_in_order(tmp_path: Path) -> None:
    once = small_network()
    twice = sc.prune(once.model, example_inputs("lenet5"), budget={"channels": 0.5})
    twice.save(tmp_path / "twice", source=SOURCE)
    loaded = sc.load(tmp_path / "twice")
    assert len(history_of(loaded)) == 2
    image = example_inputs("lenet5")[0]
    assert torch.equal(loaded(image), twice.model.eval()(image))


def test_retrained_weights_keep_the_history(tmp_path: Path) -> None:
    model = small_network().model
    with torch.no_grad():
        model.fc3.bias.add_(1)
    save_folder(model, tmp_path / "tuned", source=SOURCE)
    assert torch.equal(sc.load(tmp_path / "tuned").fc3.bias, model.fc3.bias)


def test_tied_and_shared_tensors_survive(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6)
            self.second = nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.register_buffer("table", torch.arange(12.0).view(3, 4)[:, 1:])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    model = Tied()
    save_folder(model, tmp_path / "tied")
    loaded = sc.load(tmp_path / "tied", Tied())
    assert loaded.second.weight is loaded.first.weight
    assert torch.equal(loaded.table, model.table)


def test_the_manifest_has_a_hash_of_each_file(saved: Path) -> None:
    manifest = read_manifest(saved)
    assert set(manifest.sha256) == set(listing(saved)) - {"manifest.json"}
    assert read_run(saved).after["param_count"] == 15_738


@pytest.mark.parametrize("file", ["model.safetensors", "plan.json", "run.json"])
@pytest.mark.parametrize("damage", ["remove", "truncate", "flip"])
def test_damage_is_named(saved: Path, tmp_path: Path, file: str, damage: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    path, content = broken / file, (broken / file).read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-7] if damage == "truncate" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match=file.replace(".", r"\.")):
        sc.load(broken)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": 1}', '{"schema_version": 9}'])
def test_a_broken_manifest_is_named(saved: Path, tmp_path: Path, text: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    (broken / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="Manifest"):
        sc.load(broken)


def test_no_code_runs_because_a_folder_asks_for_it(saved: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    shutil.copytree(saved, hostile)
    manifest = json.loads((hostile / "manifest.json").read_text())
    manifest["source"] = {"name": "os:getcwd"}
    (hostile / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="code that is not run"):
        sc.load(hostile)


def test_a_plan_that_names_what_it_does_not_describe_is_refused(saved: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    plan, manifest = (saved / "plan.json").read_text(), json.loads((saved / "manifest.json").read_text())
    messages = []
    for found in re.finditer(r"conv2\.out", plan):
        changed = f"{plan[: found.start()]}convX.out{plan[found.end() :]}"
        (broken / "plan.json").write_text(changed)
        manifest["sha256"]["plan.json"] = hashlib.sha256(changed.encode()).hexdigest()
        (broken / "manifest.json").write_text(json.dumps(manifest))
        try:
            sc.load(broken)
        except StoreError as error:
            messages.append(str(error))
    assert any("contradicts itself" in message for message in messages)


def test_a_plan_whose_ties_name_no_axis_is_refused() -> None:
    plan = small_network().plan
    tied = replace(plan.structure, ties=(Tie((("conv1.out", 1), ("nothing.out", 1)), "made up"),))
    with pytest.raises(PlanError, match=r"lacks axis 'nothing\.out'"):
        replace(plan, structure=tied)


def test_another_model_is_refused_with_the_first_difference(saved: Path) -> None:
    with pytest.raises(StoreError, match=r"does not belong to this model.*conv1"):
        sc.load(saved, build_model("lenet5-caffe"))


@pytest.mark.parametrize(
    ("library", "name", "options"),
    [
        ("torchvision", "resnet18", {}),
        ("torchvision", "mobilenet_v3_small", {"num_classes": 7}),
        ("torchvision", "vit_b_32", {"image_size": 64, "num_classes": 7}),
        ("timm", "lcnet_050", {"num_classes": 7, "in_chans": 1}),
        ("timm", "vit_tiny_patch16_224", {"img_size": 64, "num_classes": 7}),
    ],
)
def test_networks_that_tell_how_they_were_built_need_no_factory(
    library: str, name: str, options: dict[str, int], tmp_path: Path
) -> None:
    model, image = ordinary(library, name, **options), torch.randn(1, options.get("in_chans", 3), 64, 64)
    result = sc.prune(model, image, budget={"channels": 0.5}, verify=False)
    loaded = sc.load(result.save(tmp_path / "out"))
    assert torch.equal(loaded(image), result.model.eval()(image))


def ordinary(library: str, name: str, **options: Any) -> nn.Module:
    if library == "timm":
        return pytest.importorskip("timm").create_model(name, pretrained=False, **options)
    return pytest.importorskip("torchvision.models").get_model(name, weights=None, **options)


@pytest.mark.parametrize(
    ("library", "name", "options"),
    [
        ("torchvision", "resnet50", {"replace_stride_with_dilation": [False, False, True]}),
        ("timm", "resnet18", {"output_stride": 8}),
    ],
)
def test_the_same_tensors_are_not_the_same_network(
    library: str, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    save_folder(ordinary(library, name, **options), tmp_path / "dilated")
    with pytest.raises(StoreError, match="does not say how to build"):
        sc.load(tmp_path / "dilated")


def test_an_instance_on_the_way_is_cut_by_what_is_left(tmp_path: Path) -> None:
    once = small_network()
    twice = sc.prune(once.model, example_inputs("lenet5"), budget={"channels": 0.5})
    twice.save(tmp_path / "twice")
    halfway = sc.shrink(build_model("lenet5", seed=9), once.plan)
    image = example_inputs("lenet5")[0]
    assert torch.equal(sc.load(tmp_path / "twice", halfway)(image), twice.model.eval()(image))


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    before = listing(tmp_path)
    with pytest.raises(StoreError, match="no folder that Secateur saved"):
        save_folder(build_model("lenet5"), tmp_path / "mine")
    with pytest.raises(StoreError, match="no folder that Secateur saved"):
        save_folder(build_model("lenet5"), tmp_path / "mine" / "thesis.txt")
    assert listing(tmp_path) == before


def test_only_what_is_ours_is_replaced(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "manifest.json").write_text('{"manifest_version": 3}')
    with pytest.raises(StoreError, match="no folder that Secateur saved"):
        save_folder(build_model("lenet5"), tmp_path / "extension")
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("what I saw")
    with pytest.raises(StoreError, match=r"holds notes\.txt that Secateur did not save"):
        save_folder(build_model("lenet300"), tmp_path / "run")
    assert (tmp_path / "run" / "notes.txt").read_text() == "what I saw"


def test_a_folder_of_ours_is_replaced_whole(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(saved, again)
    save_folder(build_model("lenet300"), again, texts={"recipe.yaml": "seed: 0\n"})
    assert sc.load(again, build_model("lenet300")).fc1.out_features == 300
    assert (again / "recipe.yaml").read_text() == "seed: 0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_nothing_half_written(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    target = tmp_path / "target"
    if exists:
        shutil.copytree(saved, target)
    before = listing(tmp_path)

    def fail(*arguments: object, **options: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("secateur.store.folder.model_card", fail)
    with pytest.raises(OSError, match="disk full"):
        save_folder(build_model("lenet5"), target)
    assert listing(tmp_path) == before


def test_a_run_that_was_not_verified_can_be_read_back(tmp_path: Path) -> None:
    worst = sc.Verification(float("inf"), float("inf"), False, detail="shapes differ")
    save_folder(build_model("lenet5"), tmp_path / "wrong", run=RunRecord("prune", "m", verification=worst))
    assert read_run(tmp_path / "wrong").verification == worst


def test_history_can_be_noted_for_a_copy(saved: Path) -> None:
    first, copy = sc.load(saved), sc.load(saved)
    remember_history(copy, [])
    assert len(history_of(first)) == 1
    assert history_of(copy) == ()
