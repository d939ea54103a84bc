"""Methods that prune while training, one option away: what names make, what runs end with, what is refused."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import listing, secateur
from torch import nn

import secateur as sc
from secateur.cli.app import VERBS
from secateur.cli.recipe import resolved
from secateur.data import open_data
from secateur.models import list_models
from secateur.sparse import as_tensors, masks_of, sparsity
from secateur.store import history_of
from secateur.train import TrainConfig, checkpoint, fit
from secateur.train.methods import METHODS, Ended, Made, Run, SparsitySchedule, end, read_method

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
NAMES = [name for name, _ in METHODS.describe() if "crossings" not in name]
GOING = {"movement": "sparsity=0.75", "soft-filters": "macs=0.5", "l0": "macs=0.5", "layer-drop": "share=0.5"}
"""What goes, where a method decides and `macs=0.5` is not the first thing to say."""
REGULARISERS = ("slimming", "group-lasso", "targeted-dropout", "unit-dropout", "drop-connect")
WHOLE = ("train", "lenet5", "--data", "digits")
TRAIN = (*WHOLE, "--limit", 256)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


def network() -> nn.Module:
    """Channels with BatchNorms, and two residual blocks that may leave."""
    head = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    tail = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10)]
    return nn.Sequential(*head, Residual(), Residual(), *tail)


INPUTS = torch.zeros(1, 1, 8, 8)


def trained(text: str) -> tuple[nn.Module, Made, Ended]:
    """A small network after eight steps with a method, the method, and what the run ends with."""
    model, data = network(), open_data("digits", "train").subset(128)
    config = TrainConfig(epochs=4, batch_size=64, learning_rate=0.02)
    made = read_method(text).make(Run(model, INPUTS, sc.trace(model, INPUTS), config, steps_per_epoch=2))
    fit(model, data, config=config, methods=[made.method])
    return model, made, end(model, INPUTS, [made])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REGULARISERS])
def test_what_is_asked_for_goes_for_good_and_is_proved(name: str) -> None:
    model, _, ended = trained(f"{name}:{GOING.get(name, 'macs=0.5')}")
    assert ended.verification is not None
    assert ended.verification.ok
    if name == "movement":
        assert sparsity(ended.model) == pytest.approx(0.75, abs=1e-3)
        return
    counts = [sum(parameter.numel() for parameter in one.parameters()) for one in (ended.model, model)]
    assert counts[0] < 0.75 * counts[1]
    assert len(history_of(ended.model)) == 1


@pytest.mark.parametrize("name", REGULARISERS)
def test_regularisers_change_nothing_at_the_end(name: str) -> None:
    model, made, ended = trained(name)
    assert ended.model is model
    assert ended.verification is None
    assert made.then


@pytest.mark.parametrize("text", ["feedback:sparsity=0.8", "movement:sparsity=0.8", "linear:sparsity=0.8,rounds=2"])
def test_the_zeros_for_good_are_those_that_the_schedule_holds(text: str) -> None:
    model, made, ended = trained(text)
    assert isinstance(made.method, SparsitySchedule)
    kept = as_tensors(masks_of(ended.model))
    assert {name: int(mask.sum()) for name, mask in kept.items()} == {
        name: int(mask.sum()) for name, mask in made.method.masks.items()
    }
    assert all(torch.equal(kept[name], made.method.masks[name]) for name in kept)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), ended.model.parameters(), strict=True))


def test_single_weights_stay_zero_through_finetune(tmp_path: Path) -> None:
    first = secateur(*WHOLE, "--epochs", 6, "--method", "agp:sparsity=0.9", "--out", tmp_path / "sparse", "--json")
    assert first.code == 0, first.err
    assert first.record["verification"]["ok"]
    assert first.record["before"]["sparsity"] == 0
    secateur("finetune", tmp_path / "sparse", "--data", "digits", "--epochs", 2, "--out", tmp_path / "tuned")
    sparse, tuned = (as_tensors(masks_of(sc.load(tmp_path / name))) for name in ("sparse", "tuned"))
    assert sparse.keys() == tuned.keys()
    assert all(torch.equal(tuned[name], mask) for name, mask in sparse.items())
    found = secateur("evaluate", tmp_path / "tuned", "--data", "digits", "--json").record
    assert found["sparsity"] == pytest.approx(0.9, abs=1e-4)
    assert found["accuracy"] > 0.5


def test_channels_leave_the_folder(tmp_path: Path) -> None:
    found = secateur(*TRAIN, "--epochs", 3, "--method", "soft-filters:macs=0.5", "--out", tmp_path / "small", "--json")
    assert found.code == 0, found.err
    after, loaded = found.record["after"], secateur("evaluate", tmp_path / "small", "--data", "digits", "--json")
    assert after["macs"] <= found.record["before"]["macs"] / 2
    assert {key: loaded.record[key] for key in ("macs", "param_count")} == {
        key: after[key] for key in ("macs", "param_count")
    }


def test_what_is_printed_after_a_regulariser_cuts(tmp_path: Path) -> None:
    method, out = "group-lasso:strength=1e-4", tmp_path / "lasso"
    told = secateur(*TRAIN, "--epochs", 1, "--method", method, "--out", out).out.splitlines()[-1]
    command = shlex.split(told.partition(": ")[2].replace(" DIR", f" {tmp_path / 'cut'}"))
    assert command[:2] == ["secateur", "prune"]
    assert secateur(*command[1:], "--limit", 256, "--recover", "none").code == 0
    assert (tmp_path / "cut").is_dir()


def killing(save: Callable[..., None], epoch: int) -> Callable[..., None]:
    """A checkpoint's writer after which the run is killed."""

    def killed(*arguments: Any) -> None:
        save(*arguments)
        if len(arguments[-1].history) == epoch:
            raise KeyboardInterrupt

    return killed


@pytest.mark.parametrize("method", ["agp:sparsity=0.9", "soft-filters:channels=0.5"])
def test_a_killed_run_ends_as_one_that_was_not(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = (*TRAIN, "--epochs", 3, "--method", method)
    assert secateur(*call, "--out", tmp_path / "straight").code == 0
    kept = ("--checkpoint-dir", tmp_path / "kept", "--out", tmp_path / "resumed")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", killing(checkpoint.save, epoch=2))
        assert secateur(*call, *kept).code == 130
    other = secateur(*TRAIN, "--epochs", 3, "--method", f"{method},end=0.9", *kept)
    assert other.code == 2
    assert f"--method {method}, got {method},end=0.9" in other.err
    assert secateur(*call, *kept).code == 0
    straight, resumed = (listing(tmp_path / name) for name in ("straight", "resumed"))
    same = [name for name in straight if name.endswith((".safetensors", "plan.json")) or "mask" in name]
    assert len(same) >= 2
    assert [name for name in same if straight[name] != resumed[name]] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--method", "apg:sparsity=0.9"], "'apg'; did you mean: agp"),
        (["--method", "agp:sparsty=0.9"], "no option 'sparsty'; did you mean: sparsity"),
        (["--method", "agp:sparsity=many"], "method agp: option sparsity=many"),
        (["--method", "agp:sparsity"], "each option once, as agp:KEY=VALUE"),
        (["--method", "agp:sparsity=0.5,sparsity=0.9"], "each option once"),
        (["--method", "agp"], "--method agp: what goes?"),
        (["--method", "agp:sparsity=0.9,macs=0.5"], "either sparsity=0.9"),
        (["--method", "agp:sparsity=0.9,criterion=l1"], "is for channels"),
        (["--method", "agp:sparsity=0.9,end=2"], "0 <= start < end <= 1"),
        (["--method", "linear:sparsity=0.9,rounds=0"], "rounds=0"),
        (["--method", "admm:macs=0.0001"], "cannot be met"),
        (["--method", "admm:macs=0.5", "--optimizer", "adamw"], "take optimizer sgd"),
        (["--method", "l0:macs=0.5,criterion=l1"], "the gates themselves are the order"),
        (["--method", "l0", "--precision", "fp16"], "bf16 or fp32"),
        (["--method", "agp:sparsity=0.9", "--method", "soft-filters:macs=0.5"], "both decide what goes"),
        (["--method", "agp:sparsity=0.9", "--early-stopping", 2], "early stopping goes back"),
        (["--shift", 1], "--augment"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_bad_methods_are_refused_before_any_training(tmp_path: Path, options: list[Any], expected: str) -> None:
    found = secateur(*TRAIN, *options, "--out", tmp_path / "none")
    assert found.code == 2
    assert expected in found.err
    assert "epoch 1" not in found.err
    assert not (tmp_path / "none").exists()


def test_the_page_names_every_method_and_no_other_option() -> None:
    rows = [line.split("|") for line in (ROOT / "docs" / "training-methods.md").read_text().splitlines()]
    named = {row[1].strip(" `"): row[3] for row in rows if len(row) == 5 and row[1].strip(" `") in NAMES}
    assert sorted(named) == NAMES
    for name, text in named.items():
        known = {field.name for field in fields(METHODS.get(name))}  # type: ignore[arg-type]
        assert {
            word.partition("=")[0] for word in text.replace("`", "").replace(",", " ").split() if "=" in word
        } <= known


def recipes() -> list[str]:
    return sorted(path.name for path in RECIPES.iterdir())


@pytest.mark.parametrize("name", recipes())
def test_recipes_are_what_their_verbs_read(name: str) -> None:
    path = RECIPES / name
    program, verb, option, shown = path.read_text().splitlines()[0].removeprefix("# ").split()
    assert (program, option, shown) == ("secateur", "--recipe", f"examples/recipes/{name}")
    options = resolved(verb, VERBS[verb].Options, {"recipe": path})
    for text in getattr(options, "method", ()):
        read_method(text)


def test_each_recipe_starts_from_what_another_makes() -> None:
    texts = [(RECIPES / name).read_text() for name in recipes()]
    made = {line.removeprefix("out: ") for text in texts for line in text.splitlines() if line.startswith("out: ")}
    read = {line.removeprefix("model: ") for text in texts for line in text.splitlines() if line.startswith("model: ")}
    assert read - made <= {name for name, _ in list_models()}
