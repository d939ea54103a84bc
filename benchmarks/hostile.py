"""Mutated containers, saved folders and schema files: one clear error each, no crash, no hang, no excess memory.

    python benchmarks/hostile.py [--count 100000] [--seed 0]

A third of the files each are mutated containers (with all hashes made right again in half of them, so that the decoders
are met and not only the hashes), saved folders (half of them with the manifest's hashes made right) and schema files.
Mutations flip bits, cut, append, swap pieces, put giant or senseless numbers in place of numbers, and nest JSON deeply.
What can still be read is fine; anything but a SecateurError is a failure and is printed, as is a file that takes longer
than SECONDS or makes the process grow by more than LIMIT_BYTES. Results go to benchmarks/results/hostile.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from runs import write_record

import secateur as sc
from secateur.models import build_model, example_inputs
from secateur.spec import SecateurError
from secateur.store.packed import PackOptions, pack_folder, unpack_folder
from secateur.store.packed.envelope import HEADER, MAGIC, VERSION, hash_of_manifest, phrases
from secateur.store.packed.reading import LIMIT_BYTES
from secateur.store.packed.streams import decompress

RESULT = Path(__file__).parent / "results" / "hostile.json"
SECONDS = 5.0
NUMBERS: tuple[Any, ...] = (-1, 0, 1, 2, 255, 2**31, 2**53 - 1, 2**53, 2**64, 10**400, 0.5, True, None, "1", [], {})
ENCODINGS = ("auto", "dense", "bitmask", "delta", "gaps", "n:m", "block", "csr")
Attack = Callable[[random.Random], Callable[[], Any]]
"""Lays a mutated file out; what it returns reads it."""


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Flipped bits, another length, or pieces in each other's places."""
    data = bytearray(content)
    kind = rng.randrange(4)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 3, 30))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[rng.randrange(len(data)) :]
    elif kind == 2:
        data += rng.randbytes(rng.randrange(1, 99))
    else:
        size = rng.randrange(1, max(len(data) // 3, 2))
        one, other = (rng.randrange(len(data) - size) for _ in range(2))
        data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]
    return bytes(data)


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    """Senseless values, keys that are gone, lists in another order, deep nesting; or damage as to any file."""
    if rng.random() < 0.2:
        return mutated(content, rng)
    if rng.random() < 0.05:
        depth = rng.choice((100, 10_000, 300_000))
        return rng.choice((b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth, b"9" * depth))
    text = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        parent, key = _some_place(text, rng)
        if parent is None:
            continue
        action = rng.randrange(4)
        if action == 0 and isinstance(parent, dict):
            del parent[key]
        elif action == 1 and isinstance(parent[key], list):
            rng.shuffle(parent[key])
        elif action == 2:
            other, place = _some_place(text, rng)
            if other is not None:
                parent[key] = json.loads(json.dumps(other[place]))
        else:
            parent[key] = rng.choice(NUMBERS)
    return json.dumps(text).encode()


def _some_place(text: Any, rng: random.Random) -> tuple[Any, Any]:
    """A container of JSON and a key or index in it, at any depth; none where there is nothing in it."""
    parent, key = None, None
    while isinstance(text, dict | list) and text and (parent is None or rng.random() < 0.8):
        parent, key = text, rng.choice(list(text) if isinstance(text, dict) else range(len(text)))
        text = parent[key]
    return parent, key


def containers(folder: Path, saved: Path) -> Attack:
    """Of every encoding, compressed or not, and rounded."""
    made: list[bytes] = []
    for encoding in ENCODINGS:
        for entropy in (True, False):
            pack_folder(saved, folder / "good.sct", options=PackOptions(encoding, entropy=entropy))
            made.append((folder / "good.sct").read_bytes())
    pack_folder(saved, folder / "good.sct", options=PackOptions(values="int8", entropy=False))
    made.append((folder / "good.sct").read_bytes())

    def attack(rng: random.Random) -> Callable[[], Any]:
        content = rng.choice(made)
        (folder / "bad.sct").write_bytes(forged(content, rng) if rng.random() < 0.5 else mutated(content, rng))

        def read() -> None:
            shutil.rmtree(folder / "unpacked", ignore_errors=True)
            unpack_folder(folder / "bad.sct", folder / "unpacked")

        return read

    return attack


def forged(content: bytes, rng: random.Random) -> bytes:
    """A container whose hashes are right, whatever else is wrong."""
    _, _, flags, size, _ = HEADER.unpack(content[: HEADER.size])
    arrays, manifest = bytearray(content[HEADER.size : -size]), content[-size:]
    if flags:
        manifest = decompress(manifest, most=1 << 20, phrases=phrases())
    if rng.random() < 0.5:
        manifest = mutated_json(manifest, rng)
    else:
        arrays = bytearray(mutated(bytes(arrays), rng))
        text = json.loads(manifest)
        start = 0
        for array in text["arrays"]:
            size = sum(array.get(name, {}).get("size", 0) for name in ("positions", "values", "scales"))
            array["crc32"] = zlib.crc32(arrays[start : start + size])
            start += size
        manifest = json.dumps(text).encode()
    return HEADER.pack(MAGIC, VERSION, 0, len(manifest), hash_of_manifest(manifest)) + arrays + manifest


def folders(folder: Path, saved: Path) -> Attack:
    """A file of a saved folder damaged, the manifest as it was or with the new hash."""
    names = sorted(path.name for path in saved.iterdir())

    def attack(rng: random.Random) -> Callable[[], Any]:
        bad = folder / "bad-folder"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(saved, bad)
        name = rng.choice(names)
        content = (saved / name).read_bytes()
        damaged = mutated_json(content, rng) if name.endswith(".json") else mutated(content, rng)
        (bad / name).write_bytes(damaged)
        if name != "manifest.json" and rng.random() < 0.5:
            manifest = json.loads((saved / "manifest.json").read_text())
            manifest["sha256"][name] = hashlib.sha256(damaged).hexdigest()
            manifest["size_bytes"][name] = len(damaged)
            (bad / "manifest.json").write_text(json.dumps(manifest))
        return lambda: sc.load(bad)

    return attack


def schemas(folder: Path) -> Attack:
    """Base schemas that were edited badly."""
    model, inputs = build_model("lenet5"), example_inputs("lenet5")
    structure = sc.trace(model, inputs)
    content = json.dumps(sc.base_schema(structure)).encode()

    def attack(rng: random.Random) -> Callable[[], Any]:
        path = folder / "schema.json"
        path.write_bytes(mutated_json(content, rng))
        return lambda: sc.prune(model, inputs, budget={"channels": 0.5}, schema=path, verify=False)

    return attack


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def attacked(attack: Attack, count: int, rng: random.Random) -> dict[str, Any]:
    """How that many mutated files ended."""
    for _ in range(20):  # whatever is loaded and cached once
        _outcome(attack(rng))
    found: dict[str, Any] = {"files": count, "refused": 0, "read": 0, "failures": [], "slowest_s": 0.0}
    before = peak_bytes()
    for number in range(count):
        read = attack(rng)
        start = time.perf_counter()
        outcome = _outcome(read)
        found["slowest_s"] = max(found["slowest_s"], time.perf_counter() - start)
        if outcome in ("refused", "read"):
            found[outcome] += 1
        else:
            found["failures"].append(f"file {number}: {outcome}")
            print(found["failures"][-1], flush=True)
    found["grown_bytes"] = peak_bytes() - before
    found["ok"] = not found["failures"] and found["slowest_s"] < SECONDS and found["grown_bytes"] < LIMIT_BYTES
    return found


def _outcome(read: Callable[[], Any]) -> str:
    try:
        read()
    except SecateurError as error:
        return "refused" if len(str(error)) < 2000 else f"a message of {len(str(error))} letters"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    record: dict[str, Any] = {"count": options.count, "seed": options.seed}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small = sc.prune(build_model("lenet5"), example_inputs("lenet5"), budget={"channels": 0.5})
        sparse = sc.prune(small.model, example_inputs("lenet5"), granularity="element", budget={"sparsity": 0.8})
        saved = sparse.save(folder / "saved", source={"name": "lenet5"})
        attacks = {
            "containers": containers(folder, saved),
            "folders": folders(folder, saved),
            "schemas": schemas(folder),
        }
        for name, attack in attacks.items():
            record[name] = attacked(attack, options.count // len(attacks), random.Random(options.seed))
            print(name, {key: value for key, value in record[name].items() if key != "failures"}, flush=True)
    write_record(RESULT, record)


if __name__ == "__main__":
    main()
