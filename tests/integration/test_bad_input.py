"""Bad input: exit code 2, one message that says what to do, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from calling import listing, secateur
from PIL import Image
from safetensors.torch import save_file

from secateur.models import build_model

Arguments = list[object]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small saved folder, weights of several kinds, and folders of images."""
    root = tmp_path_factory.mktemp("bad")
    assert secateur("prune", "lenet5", "--budget", "channels=0.5", "--out", root / "small").code == 0
    weights = {name: tensor.clone() for name, tensor in build_model("lenet5").state_dict().items()}
    save_file({**weights, "fc3.bias": torch.full((10,), torch.nan)}, root / "nan.safetensors")
    save_file({"conv1.weight": torch.zeros(6, 1, 3, 3)}, root / "other.safetensors")
    (root / "thesis").mkdir()
    (root / "thesis" / "chapter.txt").write_text("years of work")
    _images(root / "images")
    return root


def _images(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((32, 32), 40 * number, np.uint8)).save(folder / name / f"{number}.png")


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path


def _truncated(root: Path) -> Arguments:
    path = root / "small" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return ["evaluate", root / "small", "--data", "digits"]


def _tampered(root: Path) -> Arguments:
    path = root / "small" / "plan.json"
    path.write_text(path.read_text().replace("conv1", "conv9", 1))
    return ["verify", root / "small"]


def _broken_image(root: Path) -> Arguments:
    (root / "images" / "cat" / "2.png").write_bytes(b"not an image")
    return ["train", "lenet5", "--data", f"folder:{root / 'images'}", "--out", root / "new"]


def _empty_class(root: Path) -> Arguments:
    (root / "images" / "owl").mkdir()
    return ["train", "lenet5", "--data", f"folder:{root / 'images'}", "--out", root / "new"]


def _of_another_model(root: Path) -> Arguments:
    manifest = root / "small" / "manifest.json"
    record = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**record, "source": {"name": "lenet5-caffe"}}))
    return ["prune", root / "small", "--budget", "macs=0.5", "--out", root / "new"]


def _pruning(*options: object) -> Callable[[Path], Arguments]:
    """Prune lenet5; `{root}` in an option is the test's folder."""
    return lambda root: [
        "prune",
        "lenet5",
        *("--budget", "macs=0.5", "--out", root / "new"),
        *(str(option).replace("{root}", str(root)) for option in options),
    ]


CASES: dict[str, tuple[Callable[[Path], Arguments], str]] = {
    "no model": (lambda _: ["prune", "--budget", "macs=0.5"], "no model given"),
    "unknown model": (
        lambda _: ["prune", "lenet6", "--budget", "macs=0.5"],
        "unknown model 'lenet6'; did you mean: lenet5",
    ),
    "unknown verb": (lambda _: ["prunee"], "prunee"),
    "unknown option": (_pruning("--critterion", "l1"), "--critterion"),
    "not a number": (_pruning("--min-keep", "many"), "'--min-keep'"),
    "unknown rounding": (_pruning("--round-to", "many"), "unknown rounding 'many': give a number, or one of: auto"),
    "unknown layer": (_pruning("--ignore", "conv3"), "'conv3' matches no axis; the nearest names are"),
    "unknown target": (_pruning("--targets", "re:^conv9"), "'re:^conv9' matches no axis"),
    "unknown criterion": (_pruning("--criterion", "l3"), "unknown criteria 'l3'"),
    "unknown allocator": (_pruning("--allocator", "unifrom"), "did you mean: uniform"),
    "unknown unit": (_pruning("--budget", "mac=0.5"), "unknown budget unit 'mac'; did you mean: macs"),
    "no budget": (lambda _: ["prune", "lenet5"], "no budget given"),
    "budget without a number": (_pruning("--budget", "macs"), "cannot read budget 'macs'"),
    "fraction above one": (_pruning("--budget", "params=50"), "must be in (0, 1]"),
    "budget out of reach": (_pruning("--budget", "param_count=50"), "cannot be met"),
    "bad shape": (_pruning("--input-shape", "3x32x32"), "expected C,H,W"),
    "bad device": (_pruning("--device", "abacus"), "--device abacus cannot be used"),
    "no threads": (_pruning("--threads", 0), "--threads 0"),
    "weights missing": (_pruning("--weights", "{root}/none.safetensors"), "no weights at"),
    "weights that do not fit": (_pruning("--weights", "{root}/other.safetensors"), "does not fit LeNet5 in 10 places"),
    "weights with NaN": (_pruning("--weights", "{root}/nan.safetensors"), "NaN or infinite values in fc3.bias"),
    "unknown data": (_pruning("--data", "digit"), "unknown data 'digit'; did you mean: digits"),
    "out is somebody's": (_pruning("--out", "{root}/thesis"), "no folder that Secateur saved"),
    "out below a file": (_pruning("--out", "{root}/thesis/chapter.txt/new"), "no folder that can be written to"),
    "factory without a folder": (_pruning("--factory", "json:loads"), "builds the original of a saved folder"),
    "weights of no original": (
        lambda root: ["verify", root / "small", "--weights", root / "nan.safetensors"],
        "for the --original alone",
    ),
    "demo over somebody's": (lambda root: ["demo", "--out", root / "thesis"], "holds no comparison"),
    "other classes": (
        lambda root: ["evaluate", root / "small", "--data", f"folder:{root / 'images'}", "--input-shape", "1,32,32"],
        "gives 10 scores per image",
    ),
    "colour for a grey model": (
        lambda root: ["evaluate", root / "small", "--data", "cifar10:{root}/none"],
        "no such file or folder",
    ),
    "no folder": (lambda root: ["evaluate", root / "none", "--data", "digits"], "is no folder"),
    "not a saved folder": (lambda root: ["evaluate", root / "thesis", "--data", "digits"], "holds no manifest.json"),
    "no data": (lambda root: ["evaluate", root / "small"], "no data given"),
    "unknown split": (lambda root: ["evaluate", root / "small", "--data", "digits", "--split", "dev"], "unknown split"),
    "nowhere to save": (lambda _: ["train", "lenet5", "--data", "digits"], "--out DIR"),
    "bad schedule": (
        lambda root: ["train", "lenet5", "--data", "digits", "--schedule", "linear", "--out", root / "new"],
        "schedule='linear'",
    ),
    "tuning random weights": (
        lambda root: ["finetune", "lenet5", "--data", "digits", "--out", root / "new"],
        "starts from trained weights",
    ),
    "verify a name": (lambda _: ["verify", "lenet5"], "verify checks a folder"),
    "list nothing": (lambda _: ["list", "colours"], "cannot list colours"),
    "bad format": (lambda _: ["inspect", "lenet5", "--format", "xml"], "expected text, json, dot or keti"),
    "truncated folder": (_truncated, "truncated"),
    "tampered folder": (_tampered, "was changed"),
    "folder of another model": (_of_another_model, "does not belong to this model"),
    "broken image": (_broken_image, "2.png"),
    "empty class": (_empty_class, "owl: 0 images"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_message_and_leaves_nothing_behind(name: str, root: Path) -> None:
    make, expected = CASES[name]
    arguments = make(root)
    before, names = listing(root), sorted(root.rglob("*"))
    found = secateur(*arguments, "--json")
    assert found.code == 2, found
    assert expected in found.record["error"]
    assert found.err.count("secateur: ") == 1
    assert f"secateur: {found.record['error']}" in found.err
    assert "Traceback" not in found.err
    assert (listing(root), sorted(root.rglob("*"))) == (before, names)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--ignore", "re:("), "is no regular expression"),
        (("--num-classes", 0), "cannot have 0 classes"),
        (("--num-classes", 10**11), "cannot be built with num_classes=100000000000"),
        (("--share", "conv1=2"), "--share is for --allocator adaptive"),
        (("--calibration", 0), "give at least 1 image"),
    ],
)
def test_options_that_make_no_sense(options: tuple[object, ...], expected: str, tmp_path: Path) -> None:
    found = secateur("prune", "lenet5", "--budget", "macs=0.5", "--out", tmp_path / "out", *options)
    assert found.code == 2
    assert expected in found.err
    assert list(tmp_path.iterdir()) == []
