"""Masks of single weights as small pictures: how dense each region of a weight is."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from secateur.report.html import Html, element, joined, name
from secateur.report.numbers import count, percent
from secateur.report.parts import figure, paragraph, table
from secateur.spec import StoreError
from secateur.spec.saved import MASKS_HEADER, MASKS_VERSION

SIDE = 64
"""Of a picture, in cells, at most."""
ROWS_READ = 1024
"""Of a weight: of larger ones a picture shows so many rows, evenly spread."""
MOST_PICTURES = 24
BITS = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)

Cells = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Density:
    """How much of a weight stays."""

    name: str
    shape: tuple[int, ...]
    kept: int
    cells: Cells
    """Share that stays in each region, `(rows, columns)`: outputs by inputs."""

    @property
    def share(self) -> float:
        return self.kept / max(1, prod(self.shape))


def read_densities(path: Path) -> list[Density]:
    """Of every masked weight, the largest first; raises StoreError where the file is damaged."""
    try:
        return sorted(_densities(path), key=lambda one: -prod(one.shape))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{path} cannot be read as masks: {error}; copy the folder again") from error


def _densities(path: Path) -> Iterator[Density]:
    with safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()[MASKS_HEADER])
        if header["schema_version"] != MASKS_VERSION:
            raise StoreError(f"{path}: schema_version {header['schema_version']}, expected {MASKS_VERSION}")
        for weight, sizes in header["shapes"].items():
            shape = tuple(int(size) for size in sizes)
            mask: Any = file.get_slice(weight)
            (stored,) = mask.get_shape()
            if min(shape, default=1) < 1 or stored != -(-prod(shape) // 8) or mask.get_dtype() != "U8":
                raise ValueError(f"{weight!r} holds {stored} of {mask.get_dtype()}, which is no mask of {shape}")
            bits: Any = file.get_tensor(weight)
            yield Density(str(weight), shape, int(BITS[bits].sum(dtype=np.int64)), _cells(bits, shape))


def _cells(bits: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> Cells:
    rows, columns = (shape[0], prod(shape[1:])) if len(shape) > 1 else (1, prod(shape))
    read = np.unique(np.linspace(0, rows - 1, min(rows, ROWS_READ)).round().astype(np.int64))
    down, across = min(len(read), SIDE), min(columns, SIDE)
    starts = np.arange(across) * columns // across
    widths = np.diff(np.append(starts, columns))
    sums, seen = np.zeros((down, across)), np.zeros(down)
    for place, row in enumerate(read):
        cell = place * down // len(read)
        sums[cell] += np.add.reduceat(_row(bits, int(row) * columns, columns), starts) / widths
        seen[cell] += 1
    return sums / seen[:, None]


def _row(bits: npt.NDArray[np.uint8], start: int, columns: int) -> npt.NDArray[np.int64]:
    stored = np.unpackbits(bits[start // 8 : -(-(start + columns) // 8)])
    return stored[start % 8 :][:columns].astype(np.int64)


def maps(densities: list[Density]) -> Html:
    """A picture for each of the largest weights, and a table of all."""
    total = sum(prod(one.shape) for one in densities)
    kept = sum(one.kept for one in densities)
    densest = max(densities, key=lambda one: one.share)
    sparsest = min(densities, key=lambda one: one.share)
    most, least = percent(densest.share), percent(sparsest.share)
    apart = (
        []
        if most == least
        else ["Most in ", name(densest.name), f" ({most}), least in ", name(sparsest.name), f" ({least}). "]
    )
    says = (
        f"{percent(kept / total)} of {count(total)} weights stay. ",
        *apart,
        "A row of a picture is an output, a column an input; the darker, the more stays there (on a dark page, the "
        "lighter). Large weights are drawn smaller than they are.",
    )
    rows = ((name(one.name), _sizes(one), f"{one.kept:,}", percent(one.share)) for one in densities)
    numbers = table("Weights that stay", ("Weight", "Shape", "Stay", "Share"), rows)
    pictures = element("div", *(_picture(one) for one in densities[:MOST_PICTURES]), class_="maps")
    few = len(densities) > MOST_PICTURES
    more = paragraph(f"Drawn are the {MOST_PICTURES} largest of {len(densities)} weights.", kind="aside") if few else ""
    return figure(joined([pictures, more]), joined(says), numbers)


def _sizes(one: Density) -> str:
    return " × ".join(map(str, one.shape))


def _picture(one: Density) -> Html:
    says = f"{one.name[:200]}, {_sizes(one)}: {percent(one.share)} of the weights stay"
    image = element("img", src=f"data:image/png;base64,{_png(one.cells)}", alt=says)
    told = element("p", name(one.name, 26), element("span", percent(one.share), class_="muted"), aria_hidden="true")
    return element("div", image, told, class_="map")


def _png(cells: Cells) -> str:
    """Ink whose opacity is the density, so that it stands on any ground; PNG of grey and alpha, 8 bits each."""
    rows, columns = cells.shape
    pixels = np.zeros((rows, columns, 2), dtype=np.uint8)
    pixels[..., 1] = np.round(255 * np.clip(cells, 0, 1))
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", columns, rows, 8, 4, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
