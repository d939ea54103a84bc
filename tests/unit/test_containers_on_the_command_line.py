"""Every verb that takes a saved folder takes the container of it, and leaves nothing behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from calling import secateur

import secateur as sc
from secateur.store.packed import pack_folder

DIGITS = ("--data", "digits", "--limit", 100)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders, and a container beside each."""
    there = tmp_path_factory.mktemp("packed")
    for arguments in (
        ("train", "lenet300", *DIGITS, "--epochs", 1, "--out", there / "base"),
        ("prune", there / "base", "--budget", "macs=0.5", "--out", there / "small"),
    ):
        assert secateur(*arguments).code == 0
    for name in ("base", "small"):
        pack_folder(there / name, there / f"{name}.sct")
    return there


@pytest.fixture(autouse=True)
def emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", *DIGITS),
        ("inspect",),
        ("verify",),
        ("verify", "--original", "{there}/base.sct"),
        ("prune", "--budget", "macs=0.5"),
        ("finetune", *DIGITS, "--epochs", 1, "--out", "{out}"),
        ("finetune", *DIGITS, "--epochs", 1, "--distill", "{there}/base.sct", "--out", "{out}"),
        ("sensitivity", *DIGITS, "--out", "{out}"),
        ("partition", "--devices", 2, "--out", "{out}"),
        ("pack", "--values", "int8", "-o", "{out}.sct"),
        ("export", "-o", "{out}.pt2"),
        ("bench", "--repeats", 2),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_a_container_is_as_good_as_its_folder(
    arguments: tuple[object, ...], saved: Path, tmp_path: Path, emptied: Path
) -> None:
    verb, *options = (str(text).format(there=saved, out=tmp_path / "out") for text in arguments)
    packed = secateur(verb, saved / "small.sct", *options, "--json")
    assert packed.code == 0, packed.err
    assert list(emptied.iterdir()) == []
    if verb in ("evaluate", "inspect", "verify"):
        assert packed.record == secateur(verb, saved / "small", *options, "--json").record


def test_what_is_made_of_a_container_loads_without_it(saved: Path, tmp_path: Path) -> None:
    made = secateur("prune", saved / "small.sct", "--budget", "macs=0.5", "--out", tmp_path / "smaller")
    assert made.code == 0, made.err
    assert len(sc.load(tmp_path / "smaller").fc1.weight) < len(sc.load(saved / "small").fc1.weight)
    assert sc.load(tmp_path / "smaller")(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


def test_a_file_that_is_no_container_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    found = secateur("inspect", tmp_path / "thesis.txt")
    assert (found.code, "no container that Secateur packed" in found.err) == (2, True)


def test_a_container_that_needs_its_base_says_so(saved: Path, tmp_path: Path) -> None:
    pack_folder(saved / "small", tmp_path / "update.sct", base=saved / "base")
    found = secateur("inspect", tmp_path / "update.sct")
    assert (found.code, "unpack it with --delta BASE" in found.err) == (2, True)
