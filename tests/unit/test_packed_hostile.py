"""Containers from people who mean ill: one clear error each, no crash, no hang, no memory beyond what is stated."""

from __future__ import annotations

import json
import random
import resource
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard

from secateur.spec import StoreError
from secateur.store.packed import PackOptions, open_packed, pack, unpack, unpack_folder
from secateur.store.packed.envelope import HEADER, MAGIC, VERSION, hash_of_manifest
from secateur.store.packed.reading import LIMIT_BYTES
from secateur.store.packed.safetensors_file import header_for
from secateur.store.packed.streams import restore

MUTATIONS = 200
SECONDS = 2.0
"""That a refusal may take."""
Text = dict[str, Any]


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    few = torch.randn(64, 128, generator=generator)
    half = torch.randn(64, 128, generator=generator)
    return {
        "few": torch.where(few > 1.5, few, 0.0),
        "half": torch.where(half > 0, half, 0.0).half(),
        "all": torch.randn(40, 40, generator=generator),
        "2:4": torch.tensor([1.0, 0, 2, 0]).repeat(64, 32).roll(1),
        "bias": torch.randn(64, generator=generator),
        "steps": torch.tensor(3),
    }


@pytest.fixture(scope="module", params=["auto", "csr", "delta", "block", "int8"])
def container(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("hostile") / "good.sct"
    rounded = request.param == "int8"
    options = PackOptions("auto" if rounded else request.param, "int8" if rounded else None, entropy=False)
    pack(tensors(), path, options=options)
    return path.read_bytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("hostile") / "plain.sct"
    pack(tensors(), path, options=PackOptions(entropy=False))
    return path.read_bytes()


def sections(content: bytes) -> tuple[bytes, bytes]:
    """The arrays, and the manifest."""
    _, _, flags, size, _ = HEADER.unpack(content[: HEADER.size])
    assert flags == 0
    return content[HEADER.size : -size], content[-size:]


def sealed(arrays: bytes, manifest: bytes) -> bytes:
    """A container whose hash of the manifest is right: what a forger writes."""
    return HEADER.pack(MAGIC, VERSION, 0, len(manifest), hash_of_manifest(manifest)) + arrays + manifest


def forged(content: bytes, change: Callable[[Text], Any]) -> bytes:
    """The container with its manifest changed, and all hashes made right again."""
    arrays, manifest = sections(content)
    text = json.loads(manifest)
    change(text)
    return sealed(arrays, json.dumps(text).encode())


def refused(path: Path, content: bytes) -> str | None:
    """The message, none where the container can be read; anything but StoreError fails, and so does taking long."""
    path.write_bytes(content)
    start = time.process_time()
    try:
        unpack(path)
    except StoreError as error:
        assert str(path) in str(error)
        return str(error)
    finally:
        assert time.process_time() - start < SECONDS
    return None


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Flipped bits, another length, or pieces in each other's places."""
    data = bytearray(content)
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 3, 20])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[rng.randrange(len(data)) :]
    elif kind == 2:
        data += rng.randbytes(rng.randrange(1, 50))
    else:
        size = rng.randrange(1, len(data) // 3)
        one, other = (rng.randrange(len(data) - size) for _ in range(2))
        data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    return bytes(data)


def test_every_mutation_is_one_error(container: bytes, tmp_path: Path) -> None:
    rng = random.Random(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(MUTATIONS):
        damaged = mutated(container, rng)
        if damaged != container:
            assert refused(tmp_path / "bad.sct", damaged) is not None, number
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < LIMIT_BYTES


def numbers_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the numbers are."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in numbers_of(item, (*path, key))]
    if isinstance(value, list):
        return [found for key, item in enumerate(value) for found in numbers_of(item, (*path, key))]
    return [path] if type(value) is int else []


def test_no_forged_number_crashes(container: bytes, tmp_path: Path) -> None:
    places = numbers_of(json.loads(sections(container)[1]))
    rng = random.Random(1)
    outcomes = []
    for place in places:
        for value in rng.sample(
            [-1, 0, 1, 2, 3, 7, 255, 2**31, 2**53 - 1, 2**53, 2**64, 10**400, 1.5, True, None, "1"], 3
        ):

            def change(text: Text, place: tuple[Any, ...] = place, value: Any = value) -> None:
                target: Any = text
                for step in place[:-1]:
                    target = target[step]
                target[place[-1]] = value

            outcomes.append(refused(tmp_path / "bad.sct", forged(container, change)))
    assert sum(outcome is not None for outcome in outcomes) > 0.8 * len(outcomes)


def array_of(text: Text, name: str) -> Text:
    return next(array for array in text["arrays"] if array["members"][0].get("name") == name)


def swap_names(text: Text) -> None:
    array_of(text, "few")["members"][0]["name"] = "all"


def say_where(text: Text) -> None:
    array_of(text, "few")["members"][0]["at"] = 0


def another_order(text: Text) -> None:
    del text["files"][0]["safetensors"]


def another_header(text: Text) -> None:
    text["files"][0]["safetensors"] = {"format": "pt"}


def one_byte_less(text: Text) -> None:
    text["arrays"].pop()


def out_of_order(text: Text) -> None:
    text["arrays"].reverse()


def rename(name: str) -> Callable[[Text], None]:
    def change(text: Text) -> None:
        text["files"][0]["name"] = name

    return change


def grow(text: Text) -> None:
    """Zeros without end, in no bytes at all."""
    array = array_of(text, "few")
    array.update(encoding="dense", kept=0, parameters={}, positions={"codec": "raw", "size": 0})
    array["members"][0]["shape"] = [2**20, 2**30]


def refer_to_itself(text: Text) -> None:
    array_of(text, "few")["reference"] = {"kind": "zeros", "of": "few"}


def refer_to_no_base(text: Text) -> None:
    array_of(text, "few")["reference"] = {"kind": "base"}


def unknown_key(text: Text) -> None:
    text["comment"] = "hello"


def unknown_version(text: Text) -> None:
    text["schema_version"] = 2


def unknown_encoding(text: Text) -> None:
    array_of(text, "few")["encoding"] = "pickle"


def unknown_type(text: Text) -> None:
    array_of(text, "few")["members"][0]["dtype"] = "OBJECT"


def many_dimensions(text: Text) -> None:
    array_of(text, "few")["members"][0]["shape"] += [1] * 100


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (swap_names, "occurs twice"),
        (say_where, "contradicts the order"),
        (another_order, "contradicts the order"),
        (another_header, "its members"),
        (one_byte_less, "bytes, expected"),
        (out_of_order, "CRC-32 differs"),
        (rename("../../etc/passwd"), "no plain file name"),
        (rename("/etc/passwd"), "no plain file name"),
        (rename(".."), "no plain file name"),
        (rename(""), "no plain file name"),
        (rename("C:\\x"), "no plain file name"),
        (rename("a\0b"), "no plain file name"),
        (rename("x" * 300), "no plain file name"),
        (grow, "expected"),
        (refer_to_itself, "not there or has another size"),
        (refer_to_no_base, "base that is not named"),
        (unknown_key, "comment"),
        (unknown_version, "schema_version 2"),
        (unknown_encoding, "unknown encoding 'pickle'"),
        (unknown_type, "unknown type 'OBJECT'"),
        (many_dimensions, "too large"),
    ],
)
def test_forgeries_are_refused(change: Callable[[Text], None], expected: str, plain: bytes, tmp_path: Path) -> None:
    message = refused(tmp_path / "bad.sct", forged(plain, change))
    assert message is not None
    assert expected in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 1_000_000,
        b'{"files":' * 100_000,
        b'{"schema_version": ' + b"9" * 1_000_000 + b"}",
        b'{"schema_version": NaN}',
        b"\xff\xfe",
        b"",
        b"null",
    ],
    ids=["deep list", "deep object", "giant number", "NaN", "no UTF-8", "nothing", "null"],
)
def test_malformed_json_is_one_error(text: bytes, tmp_path: Path) -> None:
    message = refused(tmp_path / "bad.sct", sealed(b"", text))
    assert message is not None
    assert len(message) < 1000


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    zeros = torch.zeros(30_000, 1000)
    pack({"w": zeros}, tmp_path / "zeros.sct")
    with pytest.raises(StoreError, match="trust-size"):
        unpack(tmp_path / "zeros.sct")
    with pytest.raises(StoreError, match="trust_size"):
        open_packed(tmp_path / "zeros.sct")
    with pytest.raises(StoreError, match="trust-size"):
        unpack_folder(tmp_path / "zeros.sct", tmp_path / "out")
    assert torch.equal(unpack(tmp_path / "zeros.sct", trust_size=True)["w"], zeros)


def test_working_memory_counts(tmp_path: Path) -> None:
    """67 million rows of nothing: no tensor, but as many numbers of where each row starts."""
    rows = 67_000_000
    array = {
        "crc32": zlib.crc32(stored := zstandard.compress(bytes(rows + 1))),
        "encoding": "csr",
        "kept": 0,
        "members": [{"dtype": "U8", "shape": [rows, 0], "name": "w"}],
        "positions": {"codec": "zstd", "size": len(stored)},
        "values": {"codec": "raw", "size": 0},
    }
    size = len(header_for({"w": ("U8", (rows, 0))}))
    files = [{"name": "model.safetensors", "size": size, "safetensors": {}}]
    text = json.dumps({"files": files, "arrays": [array], "schema_version": 1}).encode()
    message = refused(tmp_path / "rows.sct", sealed(stored, text))
    assert message is not None and "trust-size" in message


LYING = bytearray(zstandard.compress(bytes(1000)))
LYING[5:7] = (300 - 256).to_bytes(2, "little")  # where a frame of this size says how much it holds


@pytest.mark.parametrize(
    "frame",
    [
        zstandard.compress(bytes(1 << 28)),
        zstandard.compress(bytes(10)),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(300)),
        zstandard.compress(bytes(300)) + b"more",
        zstandard.compress(bytes(300))[:-1],
        bytes(LYING),
        b"",
        b"no frame at all",
    ],
    ids=["too much", "too little", "not said", "more behind", "cut off", "lying", "empty", "noise"],
)
def test_a_frame_holds_what_is_expected_or_is_refused(frame: bytes) -> None:
    assert len(restore("zstd", zstandard.compress(bytes(300)), 300, 1)) == 300
    with pytest.raises(StoreError, match="compressed stream"):
        restore("zstd", frame, 300, 1)


def test_positions_that_contradict_each_other_are_refused(container: bytes, tmp_path: Path) -> None:
    """Streams are mutated and sealed again, so that the decoders themselves are met."""
    arrays, manifest = sections(container)
    rng = random.Random(2)
    for _ in range(MUTATIONS // 2):
        data, text = bytearray(arrays), json.loads(manifest)
        for _ in range(rng.choice([1, 5])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        start = 0
        for array in text["arrays"]:
            size = sum(array.get(name, {"size": 0})["size"] for name in ("positions", "values", "scales"))
            array["crc32"] = zlib.crc32(data[start : start + size])
            start += size
        refused(tmp_path / "bad.sct", sealed(bytes(data), json.dumps(text).encode()))
