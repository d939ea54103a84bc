"""Packed containers: every tensor back bit for bit, each encoding, single tensors, bases, rounded values."""

from __future__ import annotations

import hashlib
import runpy
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calling import listing, secateur
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.spec import StoreError
from secateur.store import read_manifest, save_folder
from secateur.store.packed import (
    ENCODINGS,
    PackOptions,
    open_packed,
    pack,
    pack_folder,
    pack_weights,
    unpack,
    unpack_folder,
)
from secateur.store.packed.envelope import HEADER
from secateur.store.packed.words import TYPES, as_words

SHAPES = st.lists(st.integers(0, 12), max_size=4).map(tuple)
DENSITIES = st.sampled_from([0.0, 0.003, 0.1, 0.5, 0.97, 1.0])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, NaNs and the sign of zero included."""
    return (one.dtype, one.shape) == (other.dtype, other.shape) and np.array_equal(as_words(one), as_words(other))


def random_bits(shape: tuple[int, ...], dtype: torch.dtype, density: float, seed: int) -> torch.Tensor:
    """A tensor of any bit pattern, NaNs with payloads and -0.0 among them, some share of it zero."""
    rng = np.random.default_rng(seed)
    octets = rng.integers(0, 256, (prod(shape), dtype.itemsize), dtype=np.uint8)
    if dtype == torch.bool:
        octets &= 1
    octets[rng.random(len(octets)) >= density] = 0
    return torch.from_numpy(octets.reshape(-1)).view(dtype).reshape(shape)


def sparse(shape: tuple[int, ...], density: float, seed: int = 0) -> torch.Tensor:
    """Normal numbers at random places."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < density, values, 0.0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=SHAPES,
    dtype=st.sampled_from(sorted(TYPES)),
    density=DENSITIES,
    encoding=st.sampled_from(["auto", *ENCODINGS]),
    entropy=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_tensor_comes_back_bit_for_bit(
    shape: tuple[int, ...], dtype: str, density: float, encoding: str, entropy: bool, seed: int, tmp_path: Path
) -> None:
    tensors = {
        "one": random_bits(shape, TYPES[dtype], density, seed),
        "other": random_bits((16, *shape), TYPES[dtype], density, seed + 1),
    }
    pack(tensors, tmp_path / "any.sct", options=PackOptions(encoding, entropy=entropy))
    found = unpack(tmp_path / "any.sct")
    assert sorted(found) == sorted(tensors)
    assert all(same(found[name], tensors[name]) for name in tensors)


def two_of_four(shape: tuple[int, ...], across: int) -> torch.Tensor:
    """The two largest of every four along a dimension."""
    moved = sparse(shape, 1.0).movedim(across, -1)
    groups = moved.reshape(-1, 4)
    kept = torch.zeros_like(groups).scatter(1, groups.abs().topk(2).indices, 1.0)
    return torch.where(kept != 0, groups, 0.0).reshape(moved.shape).movedim(-1, across).contiguous()


def blocks(height: int, width: int) -> torch.Tensor:
    """A third of the blocks of a matrix."""
    grid = torch.rand(300 // height, 400 // width, generator=torch.Generator().manual_seed(1)) < 0.3
    return torch.where(grid.repeat_interleave(height, 0).repeat_interleave(width, 1), sparse((300, 400), 1.0), 0.0)


CASES: dict[str, tuple[torch.Tensor, str]] = {
    "very sparse": (sparse((300, 400), 0.002), "gaps"),
    "sparse": (sparse((300, 400), 0.1), "gaps"),
    "half": (sparse((300, 400), 0.5), "bitmask"),
    "full": (sparse((300, 400), 1.0), "dense"),
    "2:4": (two_of_four((300, 400), 1), "n:m"),
    "blocks": (blocks(4, 4), "block"),
    "rows": (blocks(1, 400), "block"),
    "columns": (blocks(300, 1), "block"),
}


@pytest.mark.parametrize("entropy", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_choice_is_the_smallest_of_all(case: str, entropy: bool, tmp_path: Path) -> None:
    tensor, expected = CASES[case]
    sizes = {}
    for encoding in ["auto", *ENCODINGS]:
        manifest = pack({"w": tensor}, tmp_path / "one.sct", options=PackOptions(encoding, entropy=entropy))
        sizes[encoding] = next(array.size for array in manifest.arrays if array.words == tensor.numel())
    assert sizes["auto"] == min(sizes.values())
    assert sizes["auto"] <= sizes[expected] * 1.01, sizes


@pytest.mark.parametrize("across", [1, 3])
def test_two_of_four_is_found_along_both_dimensions(across: int, tmp_path: Path) -> None:
    tensor = two_of_four((64, 32, 3, 8), across)
    manifest = pack({"w": tensor}, tmp_path / "one.sct", options=PackOptions(entropy=False))
    (array,) = (array for array in manifest.arrays if array.members[0].name == "w")
    assert (array.encoding, array.parameters["n"], array.parameters["m"]) == ("n:m", 2, 4)
    assert array.positions.size == -(-tensor.numel() // 12)
    assert same(unpack(tmp_path / "one.sct")["w"], tensor)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_an_encoding_that_is_asked_for_is_used_where_it_can_be(encoding: str, tmp_path: Path) -> None:
    tensors = {"w": two_of_four((64, 96), 1), "bias": torch.randn(96)}
    manifest = pack(tensors, tmp_path / "forced.sct", options=PackOptions(encoding))
    chosen = {manifest.key(array.members[0]): array.encoding for array in manifest.arrays}
    assert chosen["w"] == encoding
    assert all(same(tensor, tensors[name]) for name, tensor in unpack(tmp_path / "forced.sct").items())


@pytest.mark.parametrize("gap", [0, 254, 255, 256, 70_000])
@pytest.mark.parametrize("encoding", ["delta", "gaps", "csr"])
def test_gaps_of_any_length(encoding: str, gap: int, tmp_path: Path) -> None:
    row = torch.zeros(2, gap + 2)
    row[:, gap] = 1
    row[1, -1] = -0.0
    pack({"w": row}, tmp_path / "gap.sct", options=PackOptions(encoding, entropy=False))
    assert same(unpack(tmp_path / "gap.sct")["w"], row)


def test_reading_one_tensor_reads_its_bytes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {name: sparse((200, 300), 0.1, seed) for seed, name in enumerate("abc")}
    pack(tensors, tmp_path / "three.sct")
    damaged = bytearray((tmp_path / "three.sct").read_bytes())
    with open_packed(tmp_path / "three.sct") as packed:
        assert set(packed.names) == set("abc")
        assert packed.manifest.arrays[-1].members[0].name == "c"
        place = HEADER.size + packed.manifest.offsets[-1]
    damaged[place] ^= 1
    (tmp_path / "three.sct").write_bytes(damaged)
    with open_packed(tmp_path / "three.sct") as packed:
        assert same(packed.tensor("b"), tensors["b"])
        with pytest.raises(StoreError, match=r"'c'.*changed"):
            packed.tensor("c")
        with pytest.raises(StoreError, match="nearest are a"):
            packed.tensor("aa")


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_csr_tensors_come_out_of_every_encoding(encoding: str, tmp_path: Path) -> None:
    weight = sparse((8, 3, 4, 4), 0.2)
    pack({"w": weight}, tmp_path / "csr.sct", options=PackOptions(encoding))
    with open_packed(tmp_path / "csr.sct") as packed:
        found = packed.csr("w")
    assert found.layout == torch.sparse_csr
    assert same(found.to_dense(), weight.flatten(1))
    assert len(found.values()) == weight.count_nonzero()


def test_what_cannot_be_packed_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"'w' is .*complex128"):
        pack({"w": torch.zeros(3, dtype=torch.complex128)}, tmp_path / "no.sct")
    with pytest.raises(StoreError, match="unknown encoding 'zip'"):
        PackOptions("zip")
    assert list(tmp_path.iterdir()) == []


def test_whatever_is_written_can_be_read(tmp_path: Path) -> None:
    many = {f"layer.{number}.bias": torch.randn(2) for number in range(10_000)}
    pack(many, tmp_path / "many.sct")
    assert len(unpack(tmp_path / "many.sct")) == 10_000
    save_file({"w": torch.zeros(3)}, tmp_path / "a:b.safetensors")
    with pytest.raises(StoreError, match="no plain file name"):
        pack_weights(tmp_path / "a:b.safetensors", tmp_path / "no.sct")
    with pytest.raises(StoreError, match=r"many\.sct is no safetensors file"):
        pack_weights(tmp_path / "many.sct", tmp_path / "no.sct")
    assert {path.name for path in tmp_path.iterdir()} == {"many.sct", "a:b.safetensors"}


def test_only_containers_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="no container"):
        pack({"w": torch.zeros(3)}, tmp_path / "thesis.txt")
    assert listing(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack({"w": sparse((20, 20), 0.1)}, tmp_path / "one.sct")
    before = listing(tmp_path)

    def fail(*arguments: object, **options: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr("secateur.store.packed.writing.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        pack({"w": sparse((30, 30), 0.1)}, tmp_path / "one.sct")
    assert listing(tmp_path) == before


# Folders


def saved_network(folder: Path, *, sparsity: float, seed: int = 0) -> Path:
    model = build_model("lenet300", seed=seed)
    result = sc.prune(model, example_inputs("lenet300"), granularity="element", budget={"sparsity": sparsity})
    return result.save(folder, source={"name": "lenet300"})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_network(tmp_path_factory.mktemp("packed") / "sparse", sparsity=11 / 12)


@pytest.fixture(scope="module")
def sparser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_network(tmp_path_factory.mktemp("packed") / "sparser", sparsity=0.95)


@pytest.mark.parametrize("options", [PackOptions(), PackOptions("csr"), PackOptions(entropy=False)])
def test_a_folder_comes_back_bit_for_bit(saved: Path, tmp_path: Path, options: PackOptions) -> None:
    pack_folder(saved, tmp_path / "model.sct", options=options)
    unpack_folder(tmp_path / "model.sct", tmp_path / "again")
    assert listing(tmp_path / "again") == listing(saved)


def test_a_sparse_folder_is_small(saved: Path, tmp_path: Path) -> None:
    pack_folder(saved, tmp_path / "model.sct")
    dense = (saved / "model.safetensors").stat().st_size
    assert (tmp_path / "model.sct").stat().st_size < dense / 12
    with open_packed(tmp_path / "model.sct") as packed:
        masks = packed.record("masks.safetensors:fc1.weight")
        assert masks.reference is not None
        assert masks.size == 0


def test_a_container_is_loaded_like_a_folder(saved: Path, tmp_path: Path) -> None:
    pack_folder(saved, tmp_path / "model.sct")
    loaded, expected = sc.load(tmp_path / "model.sct"), sc.load(saved)
    assert all(same(one, other) for one, other in zip(loaded.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize("options", [PackOptions(), PackOptions(values="int8")], ids=["exact", "int8"])
def test_weights_are_packed_alone(saved: Path, tmp_path: Path, options: PackOptions) -> None:
    """As in the container of the folder, and in fewer bytes than that."""
    pack_folder(saved, tmp_path / "folder.sct", options=options)
    pack_weights(saved / "model.safetensors", tmp_path / "weights.sct", options=options)
    assert (tmp_path / "weights.sct").stat().st_size < (tmp_path / "folder.sct").stat().st_size - 500
    for name in ("folder", "weights"):
        unpack_folder(tmp_path / f"{name}.sct", tmp_path / name)
    restored = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("folder", "weights")]
    assert restored[0] == restored[1]
    with pytest.raises(StoreError, match="holds weights alone"):
        sc.load(tmp_path / "weights.sct")
    with pytest.raises(StoreError, match="is no file"):
        pack_weights(tmp_path / "none.safetensors", tmp_path / "none.sct")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {'\u00e9"': "\u2028"}])
def test_a_header_that_follows_from_the_tensors_is_not_stored(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({f"{name} \u00e9": torch.ones(2, 3).to(dtype) for name, dtype in TYPES.items()}, tmp_path / "a", metadata)
    usual = (tmp_path / "a").read_bytes()
    size = int.from_bytes(usual[:8], "little")
    padded = (size + 8).to_bytes(8, "little") + usual[8 : 8 + size] + b" " * 8 + usual[8 + size :]
    for content, stored in ((usual, False), (padded, True)):
        (tmp_path / "one.safetensors").write_bytes(content)
        manifest = pack_weights(tmp_path / "one.safetensors", tmp_path / "one.sct")
        assert any(member.name is None for array in manifest.arrays for member in array.members) == stored
        unpack_folder(tmp_path / "one.sct", tmp_path / f"again-{stored}")
        assert (tmp_path / f"again-{stored}" / "one.safetensors").read_bytes() == content


def test_names_of_other_files_have_the_file_before_them(saved: Path, tmp_path: Path) -> None:
    pack_folder(saved, tmp_path / "model.sct")
    names = set(unpack(tmp_path / "model.sct"))
    assert {"fc1.weight", "masks.safetensors:fc1.weight"} <= names


def test_a_kept_weight_that_is_zero_stays_in_the_mask(tmp_path: Path) -> None:
    folder = saved_network(tmp_path / "net", sparsity=0.5)
    model = sc.load(folder)
    with torch.no_grad():
        model.fc1.weight[0].zero_()
    save_folder(model, folder, source={"name": "lenet300"})
    pack_folder(folder, tmp_path / "model.sct")
    unpack_folder(tmp_path / "model.sct", tmp_path / "again")
    assert listing(tmp_path / "again") == listing(folder)


def test_a_damaged_folder_is_not_packed(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no folder"):
        pack_folder(saved / "plan.json", tmp_path / "model.sct")


def test_unpacking_leaves_foreign_folders_alone(saved: Path, tmp_path: Path) -> None:
    pack_folder(saved, tmp_path / "model.sct")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="no folder that Secateur saved"):
        unpack_folder(tmp_path / "model.sct", tmp_path / "mine")


# Bases


def test_only_what_differs_from_the_base_is_stored(saved: Path, sparser: Path, tmp_path: Path) -> None:
    pack_folder(sparser, tmp_path / "whole.sct")
    pack_folder(sparser, tmp_path / "delta.sct", base=saved)
    whole, delta = ((tmp_path / name).stat().st_size for name in ("whole.sct", "delta.sct"))
    assert delta < 0.75 * whole
    pack_folder(saved, tmp_path / "base.sct")
    for base in (saved, tmp_path / "base.sct"):
        unpack_folder(tmp_path / "delta.sct", tmp_path / "again", base=base)
        assert listing(tmp_path / "again") == listing(sparser)


def test_nothing_is_stored_of_what_is_the_same(tmp_path: Path) -> None:
    tensors = {"w": sparse((300, 300), 0.3), "bias": torch.randn(300), "steps": torch.tensor(7)}
    pack(tensors, tmp_path / "base.sct")
    changed = {**tensors, "new": torch.randn(9)}
    changed["w"] = tensors["w"].clone()
    changed["w"][3, 4] += 1
    manifest = pack(changed, tmp_path / "delta.sct", base=tmp_path / "base.sct")
    assert sum(array.size for array in manifest.arrays) < 20 + 4 * 9
    found = unpack(tmp_path / "delta.sct", base=tmp_path / "base.sct")
    assert all(same(found[name], changed[name]) for name in changed)


def test_another_base_is_refused(saved: Path, sparser: Path, tmp_path: Path) -> None:
    pack_folder(sparser, tmp_path / "delta.sct", base=saved)
    with pytest.raises(StoreError, match=r"differences from a base.*--delta"):
        unpack_folder(tmp_path / "delta.sct", tmp_path / "again")
    with pytest.raises(StoreError, match="packed against the base"):
        unpack_folder(tmp_path / "delta.sct", tmp_path / "again", base=sparser)
    with pytest.raises(StoreError, match="without a base"):
        pack_folder(saved, tmp_path / "whole.sct")
        unpack_folder(tmp_path / "whole.sct", tmp_path / "again", base=saved)
    with pytest.raises(StoreError, match="differences from a base"):
        pack_folder(saved, tmp_path / "chain.sct", base=tmp_path / "delta.sct")
    with pytest.raises(StoreError, match="nowhere cannot be read"):
        unpack_folder(tmp_path / "delta.sct", tmp_path / "again", base=tmp_path / "nowhere")


# Rounded values


@pytest.mark.parametrize(("values", "error"), [("fp16", 2**-11), ("bf16", 2**-8), ("int8", 0.51 / 126)])
def test_rounded_values_are_near_and_zeros_stay(values: Any, error: float, tmp_path: Path) -> None:
    tensors = {"w": sparse((32, 5, 3, 3), 0.3), "dead": torch.zeros(8, 8), "norm": torch.randn(32)}
    manifest = pack(tensors, tmp_path / "small.sct", options=PackOptions(values=values))
    found = unpack(tmp_path / "small.sct")
    peak = tensors["w"].abs().amax((1, 2, 3), keepdim=True) if values == "int8" else tensors["w"].abs()
    assert bool(((found["w"] - tensors["w"]).abs() <= error * peak).all())
    assert bool((found["w"][tensors["w"] == 0] == 0).all())
    assert found["w"].dtype == torch.float32
    assert same(found["norm"], tensors["norm"])
    assert same(found["dead"], tensors["dead"])
    assert {manifest.key(array.members[0]): array.value_type for array in manifest.arrays}["w"] == values
    assert not manifest.is_exact and pack(tensors, tmp_path / "exact.sct").is_exact


def test_values_that_the_type_cannot_say_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="'w' has values too large for fp16"):
        pack({"w": torch.full((2, 2), 1e6)}, tmp_path / "no.sct", options=PackOptions(values="fp16"))
    for large in (torch.full((2, 2), 65504.0).half(), torch.full((2, 2), 1e39, dtype=torch.float64)):
        with pytest.raises(StoreError, match="'w' has values too large for int8"):
            pack({"w": large}, tmp_path / "no.sct", options=PackOptions(values="int8"))
    with pytest.raises(StoreError, match="'w' has values that are not finite"):
        pack({"w": torch.full((2, 2), torch.nan)}, tmp_path / "no.sct", options=PackOptions(values="int8"))


@pytest.mark.parametrize("values", ["fp16", "bf16", "int8"])
def test_a_rounded_folder_is_sound_and_says_so(saved: Path, tmp_path: Path, values: Any) -> None:
    manifest = pack_folder(saved, tmp_path / "small.sct", options=PackOptions(values=values))
    original = {file.name: file.original_sha256 for file in manifest.files if file.original_sha256 is not None}
    assert set(original) == {"model.safetensors", "manifest.json", "README.md"}
    assert original["model.safetensors"] == hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()
    unpack_folder(tmp_path / "small.sct", tmp_path / "again")
    read_manifest(tmp_path / "again")
    loaded, expected = sc.load(tmp_path / "again"), sc.load(saved)
    assert torch.allclose(loaded.fc1.weight, expected.fc1.weight, atol=1e-3)
    assert not torch.equal(loaded.fc1.weight, expected.fc1.weight)


def test_rounding_leaves_what_the_base_has(saved: Path, tmp_path: Path) -> None:
    manifest = pack_folder(saved, tmp_path / "same.sct", options=PackOptions(values="int8"), base=saved)
    assert all(array.value_type is None for array in manifest.arrays)
    unpack_folder(tmp_path / "same.sct", tmp_path / "again", base=saved)
    assert listing(tmp_path / "again") == listing(saved)


# The command line


def test_packing_on_the_command_line(saved: Path, sparser: Path, tmp_path: Path) -> None:
    made = secateur("pack", saved, "-o", tmp_path / "model.sct", "--json").record
    assert made["exact"] is True
    assert made["size_bytes"] == (tmp_path / "model.sct").stat().st_size
    (row,) = (row for row in made["tensors"] if row["names"] == ["fc1.weight"])
    assert row["density"] == pytest.approx(1 / 12, abs=0.01)
    assert row["bits_per_element"] == pytest.approx(8 * row["size_bytes"] / (784 * 300))
    found = secateur("unpack", tmp_path / "model.sct", "--out", tmp_path / "again", "--json").record
    assert found["files"]["model.safetensors"] == (saved / "model.safetensors").stat().st_size
    assert listing(tmp_path / "again") == listing(saved)
    shown = secateur("pack", sparser, "-o", tmp_path / "delta.sct", "--delta", saved, "--values", "int8")
    assert "ROUNDED values" in shown.out
    assert secateur("unpack", tmp_path / "delta.sct", "-o", tmp_path / "more").code == 2
    assert secateur("unpack", tmp_path / "delta.sct", "-o", tmp_path / "more", "--delta", saved).code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pack"], "name a folder and a file"),
        (["unpack"], "name a container and a folder"),
        (["pack", "nowhere", "-o", "x.sct"], "no folder"),
        (["unpack", "nowhere.sct", "-o", "x"], "cannot be read"),
        (["pack", "SAVED", "-o", "x.sct", "--encoding", "zip"], "unknown encoding 'zip'"),
        (["pack", "SAVED", "-o", "x.sct", "--values", "int4"], "unknown type of values 'int4'"),
        (["pack", "SAVED", "-o", "."], "is a folder; name a file"),
    ],
)
def test_bad_requests_are_refused(
    arguments: list[str], expected: str, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = secateur(*(saved if argument == "SAVED" else argument for argument in arguments))
    assert (found.code, expected in found.err) == (2, True), found.err


# The page about the format


@pytest.mark.parametrize("encoding", ["bitmask", "gaps"])
@pytest.mark.parametrize("density", [0.01, 0.4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_a_reader_written_from_the_page_reads_the_container(
    encoding: str, density: float, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reader = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "reading_containers.py"))["read"]
    tensor = (sparse((200, 300), density) * 20).to(dtype)
    for entropy in (True, False):
        pack({"w": tensor}, tmp_path / "w.sct", options=PackOptions(encoding, entropy=entropy))
        ((name, found),) = reader(tmp_path / "w.sct")
        assert (name, same(torch.from_numpy(found), tensor)) == ("w", True)
