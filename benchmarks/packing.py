"""Bytes and CPU seconds of packed containers, against what people would do without them.

    python benchmarks/packing.py [--elements 1048576] [--speed-bytes 16777216] [--rounds 7] [--lenet FOLDER]
    SECATEUR_DATA=... python benchmarks/packing.py          # with the trained networks, and LeNet-300-100

Sizes: a random matrix, and trained networks (ResNet-20 on CIFAR-10, and the LeNet-300-100 below before it is pruned),
pruned by magnitude to densities from 0.5 % to 100 %, in fp32, fp16 and int8. Against it stand: CSR as scipy has it,
with the smallest integers that hold its indices; a bitmask and the values; torch.save and safetensors of the dense
tensors, both through zstandard at level 3 and 19. The bound is H(p) n bits for the positions of each tensor of density
p, and the values: as they are (`bound`), and as they are in the container (`stored_bound`), which is the stricter.
Every container is unpacked and compared bit for bit.

Speed: CPU seconds of `pack` and `unpack`, files included, over those of zstandard at level 3 on the dense bytes in
memory; the four take turns, medians.

LeNet: LeNet-300-100 with a twelfth of its parameters (as lenet_sparse.py trains it; made here, in some minutes, where
no folder with the saved folders `dense` and `pruned` is named), packed exactly and with int8 values, with its errors.

Results go to benchmarks/results/packing.json and docs/packing.md.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from math import log2, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard
from page import write_between_markers
from runs import read_record, write_record
from safetensors.torch import load_file, save
from scipy import sparse
from torch import Tensor

from secateur.store import save_folder
from secateur.store.packed import Member, PackOptions, pack, pack_folder, unpack, unpacked
from secateur.store.packed.values import rounded
from secateur.store.packed.words import as_tensor, as_words

ROOT = Path(__file__).parent
RESULT = ROOT / "results" / "packing.json"
PAGE = ROOT.parent / "docs" / "packing.md"
DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "int8": torch.int8}
DENSE, PRUNED = "dense", "pruned"
NEAR_BOUND = {"fp32": 1.05, "fp16": 1.05, "int8": 1.08}
"""The bytes over the bound that are aimed at, at densities from 1 to 50 %."""
Tensors = dict[str, Tensor]


def random_matrix(elements: int, density: float, dtype: torch.dtype) -> Tensors:
    """Normal numbers at random places; in int8 the largest is 127."""
    generator = torch.Generator().manual_seed(0)
    shape = (elements // 1024, 1024)
    weight = torch.randn(shape, generator=generator)
    kept = torch.rand(shape, generator=generator) < density
    return {"weight": typed(torch.where(kept, weight, 0.0), "weight", dtype)[0]}


def typed(weight: Tensor, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The weight in that type; in int8 with its scales."""
    if dtype != torch.int8:
        return weight.to(dtype), None
    codes, scales = rounded(as_words(weight), Member("F32", tuple(weight.shape), name), "int8")
    return as_tensor(codes, "I8", weight.shape), as_tensor(scales, "BF16", (len(weight),))


def pruned_network(tensors: Tensors, density: float, dtype: torch.dtype) -> Tensors:
    """The largest weights of all matrices and kernels together; vectors stay."""
    weights = {name: tensor for name, tensor in tensors.items() if tensor.dim() > 1}
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    count = round(density * len(magnitudes))
    threshold = magnitudes.kthvalue(len(magnitudes) - count + 1).values
    made = dict(tensors)
    for name, weight in weights.items():
        made[name], scales = typed(torch.where(weight.abs() >= threshold, weight, 0.0), name, dtype)
        if scales is not None:
            made[f"{name}.scale"] = scales
    return made


def entropy_bits(tensor: Tensor) -> float:
    """H(p) n of the places of the words that are not zero."""
    words = as_words(tensor)
    share = int(np.count_nonzero(words)) / max(words.size, 1)
    return 0.0 if share in (0, 1) else -words.size * (share * log2(share) + (1 - share) * log2(1 - share))


def value_bytes(tensor: Tensor) -> int:
    return int(np.count_nonzero(as_words(tensor))) * tensor.element_size()


def csr_bytes(tensor: Tensor) -> int:
    """Arrays of scipy's CSR with the smallest unsigned integers; a vector is stored dense."""
    if tensor.dim() < 2:
        return tensor.numel() * tensor.element_size()
    words = as_words(tensor).reshape(tensor.shape[0], -1)
    matrix = sparse.csr_matrix(words)
    index = np.min_scalar_type(max(words.shape[1] - 1, 0)).itemsize
    return int(matrix.data.nbytes + index * matrix.nnz + np.min_scalar_type(matrix.nnz).itemsize * len(matrix.indptr))


def bitmask_bytes(tensor: Tensor) -> int:
    return min(-(-tensor.numel() // 8) + value_bytes(tensor), tensor.numel() * tensor.element_size())


def torch_saved(tensors: Tensors) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def measured(tensors: Tensors, folder: Path, limit: float) -> dict[str, Any]:
    """Bytes of every way, and of the bounds."""
    path = folder / "one.sct"
    manifest = pack(tensors, path)
    found = unpack(path)
    exact = all(np.array_equal(as_words(found[name]), as_words(tensors[name])) for name in tensors)
    ours = path.stat().st_size
    plain = {"torch_save": torch_saved(tensors), "safetensors": save(tensors)}
    rivals = {
        "csr": sum(csr_bytes(tensor) for tensor in tensors.values()),
        "bitmask": sum(bitmask_bytes(tensor) for tensor in tensors.values()),
        **{
            f"{name}_zstd_{level}": len(zstandard.ZstdCompressor(level=level).compress(content))
            for name, content in plain.items()
            for level in (3, 19)
        },
    }
    positions = sum(entropy_bits(tensor) for tensor in tensors.values()) / 8
    bound = positions + sum(value_bytes(tensor) for tensor in tensors.values())
    stored_bound = positions + sum(array.values.size for array in manifest.arrays if array.members[0].name is not None)
    words = sum(array.words for array in manifest.arrays if array.members[0].name is not None)
    return {
        "density": sum(array.kept for array in manifest.arrays if array.members[0].name is not None) / words,
        "ours": ours,
        "rivals": rivals,
        "smallest": ours < min(rivals.values()),
        "bound": bound,
        "stored_bound": stored_bound,
        "over_bound": ours / bound,
        "over_stored_bound": ours / stored_bound,
        "near_bound": ours / stored_bound <= limit,
        "encodings": sorted({array.encoding for array in manifest.arrays if array.members[0].name is not None}),
        "exact": exact,
    }


def sources(elements: int, lenet: Path | None) -> Iterator[tuple[str, Callable[[float, torch.dtype], Tensors]]]:
    yield "random", lambda density, dtype: random_matrix(elements, density, dtype)
    trained = {"resnet20": Path(os.environ.get("SECATEUR_DATA", ".")) / "resnet20-cifar10-jpeg.safetensors"}
    if lenet is not None:
        trained["lenet300"] = lenet / DENSE / "model.safetensors"
    for name, path in trained.items():
        if path.is_file():
            tensors = load_file(path)
            yield name, lambda density, dtype, tensors=tensors: pruned_network(tensors, density, dtype)


def sizes(elements: int, lenet: Path | None, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for source, make in sources(elements, lenet):
        for kind, dtype in TYPES.items():
            for density in DENSITIES:
                row = measured(make(density, dtype), folder, NEAR_BOUND[kind])
                rows.append({"source": source, "type": kind, "asked_density": density, **row})
                over = f"{row['over_bound']:.3f} {row['over_stored_bound']:.3f}"
                print(source, kind, density, row["ours"], over, row["smallest"], row["encodings"], flush=True)
    return rows


def speeds(size_bytes: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """CPU seconds, every way once a round."""
    rows = []
    for kind, dtype in TYPES.items():
        for density in DENSITIES:
            tensors = random_matrix(size_bytes // dtype.itemsize, density, dtype)
            dense = as_words(tensors["weight"]).tobytes()
            path, frame = folder / "speed.sct", zstandard.ZstdCompressor(level=3).compress(dense)
            ways: Mapping[str, Callable[[], Any]] = {
                "pack": lambda tensors=tensors, path=path: pack(tensors, path),
                "compress": lambda dense=dense: zstandard.ZstdCompressor(level=3).compress(dense),
                "unpack": lambda path=path: unpack(path),
                "decompress": lambda frame=frame: zstandard.ZstdDecompressor().decompress(frame),
            }
            pack(tensors, path)
            spent: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds + 1):
                for way, work in ways.items():
                    if way == "pack":
                        path.unlink(missing_ok=True)  # giving back a file's memory is no part of writing one
                    start = time.process_time()
                    work()
                    spent[way].append(time.process_time() - start)
            seconds = {way: statistics.median(times[1:]) for way, times in spent.items()}
            packing, unpacking = seconds["compress"] / seconds["pack"], seconds["decompress"] / seconds["unpack"]
            rows.append({"type": kind, "density": density, **seconds, "pack_speed": packing, "unpack_speed": unpacking})
            print("speed", kind, density, f"pack {packing:.2f} unpack {unpacking:.2f} of zstd -3", flush=True)
    return rows


def lenet_folder(where: Path) -> Path:
    """LeNet-300-100 on MNIST with a twelfth of its parameters, trained and saved."""
    from lenet_sparse import CASES, dense, images, pruned

    train, _ = images(held_out=False)
    case = CASES[0]
    network = dense(case, train, 0)
    save_folder(network, where / DENSE, source={"name": case.model})
    pruned(case, network, train, 0).save(where / PRUNED, source={"name": case.model})
    return where


def lenet_sizes(saved: Path, folder: Path) -> dict[str, Any]:
    """The folder in a container, and its weights alone, exact and with int8 values; errors in percent."""
    import secateur as sc

    dense = sum(prod(tensor.shape) * 4 for tensor in load_file(saved / "model.safetensors").values())
    kept = sum(int(tensor.count_nonzero()) for tensor in load_file(saved / "model.safetensors").values())
    found: dict[str, Any] = {"dense_bytes": dense, "times_fewer": dense / 4 / kept}
    for name, options in {"exact": PackOptions(), "int8": PackOptions(values="int8")}.items():
        path = folder / f"{name}.sct"
        pack_folder(saved, path, options=options)
        with unpacked(path) as restored:
            same = (restored / "model.safetensors").read_bytes() == (saved / "model.safetensors").read_bytes()
        size = path.stat().st_size
        pack(load_file(saved / "model.safetensors"), folder / "weights.sct", options=options)
        weights = (folder / "weights.sct").stat().st_size
        found[name] = {
            "bytes": size,
            "ratio": dense / size,
            "weights_bytes": weights,
            "weights_ratio": dense / weights,
            "same_weights": same,
            "error": _error(sc.load(path)),
        }
        print("lenet", name, found[name], flush=True)
    return found


def _error(model: torch.nn.Module) -> float:
    from secateur.data import open_data
    from secateur.train import evaluate

    return 100 * (1 - evaluate(model, open_data("mnist", "test"))["accuracy"])


def table(record: Mapping[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "Bytes of a container over those of the smallest of CSR (scipy, smallest integers), bitmask, torch.save and "
        "safetensors through zstandard (3 and 19); and over the bound, H(p) n bits for the positions and the values as "
        "they lie in the container. Made by `python benchmarks/packing.py`.",
        "",
        "| network | type | " + " | ".join(f"{100 * density:g} %" for density in DENSITIES) + " |",
        "|---|---|" + "---:|" * len(DENSITIES),
    ]
    cells: dict[tuple[str, str], list[str]] = {}
    for row in record["sizes"]:
        best = row["ours"] / min(row["rivals"].values())
        cells.setdefault((row["source"], row["type"]), []).append(f"{best:.3f} / {row['over_stored_bound']:.3f}")
    lines += [f"| {source} | {kind} | {' | '.join(shown)} |" for (source, kind), shown in cells.items()]
    lines += ["", "Speed of `pack` and `unpack`, files included, over zstandard's level 3 on the dense bytes:", ""]
    lines += lines[2:4]
    lines[-2] = lines[-2].replace("network", "")
    for way in ("pack", "unpack"):
        for kind in TYPES:
            shown = [f"{row[f'{way}_speed']:.1f}" for row in record["speed"] if row["type"] == kind]
            lines.append(f"| {way} | {kind} | {' | '.join(shown)} |")
    if record.get("lenet"):
        exact, int8 = record["lenet"]["exact"], record["lenet"]["int8"]
        lines += [
            "",
            f"LeNet-300-100 with {record['lenet']['times_fewer']:.1f} times fewer parameters, against the "
            f"{record['lenet']['dense_bytes']:,} bytes of the dense network's:",
            "",
            "| | weights | whole folder | error |",
            "|---|---:|---:|---:|",
            *(
                f"| {name} | 1/{row['weights_ratio']:.1f} | 1/{row['ratio']:.1f} | {row['error']:.2f} % |"
                for name, row in (("every bit as it was", exact), ("int8 values", int8))
            ),
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elements", type=int, default=1 << 20)
    parser.add_argument("--speed-bytes", type=int, default=1 << 24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--lenet", type=Path, help="folder with LeNet-300-100, dense and pruned; trained here if not given"
    )
    parser.add_argument("--parts", nargs="+", default=["sizes", "speed", "lenet"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = read_record(RESULT)
    record |= {"torch": torch.__version__, "zstd": ".".join(map(str, zstandard.ZSTD_VERSION))}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        lenet = options.lenet or (lenet_folder(folder) if "lenet" in options.parts else None)
        if "lenet" in options.parts and lenet is not None:
            record["lenet"] = lenet_sizes(lenet / PRUNED, folder)
        if "sizes" in options.parts:
            record["sizes"] = sizes(options.elements, lenet, folder)
        if "speed" in options.parts:
            record["speed"] = speeds(options.speed_bytes, options.rounds, folder)
    write_record(RESULT, record)
    write_between_markers(PAGE, "packing", table(record))


if __name__ == "__main__":
    main()
