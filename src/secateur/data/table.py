"""`csv:FILE`: images by a table with the path and the label of each, and with its split where the table has one."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from secateur.data.decode import read_utf8
from secateur.data.files import Entry, read_files
from secateur.data.images import ImageSet
from secateur.data.limits import MAX_TABLE_BYTES
from secateur.data.source import DATA, Request, Split
from secateur.data.split import stratified
from secateur.spec import DataError

FILE_NAME = "data.csv"
"""What is read of a folder."""
NEEDED, OPTIONAL = ("path", "label"), "split"
"""Columns; others may stand beside them."""
NEITHER = ("val", "valid", "validation")
"""Splits that nothing here reads: the one for decisions in training is drawn from `train`."""
NUMBER = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Row:
    """One image, as the table has it."""

    where: str
    """File and line, for messages."""
    path: Path
    label: str
    split: str
    """Empty where the table has no such column."""


@DATA.register(
    "csv", "csv:FILE, a table with columns path, label and perhaps split (train or test); csv:DIR for DIR/data.csv"
)
def open_csv(request: Request) -> ImageSet:
    """One split of the images that a table names, relative to its folder, beyond which nothing is read.

    Labels that are all whole numbers are classes in order of value, others in order of name. Without a column `split`
    the rows are split 80/20, as folders are. Images are scaled as in a folder. Raises DataError that names file, line
    and column of what is wrong, wherever in the table it is.
    """
    table = _table(request)
    rows = _rows(table)
    classes = _classes(rows, table)
    parts = _as_told(rows, classes, table) if rows[0].split else _drawn(rows, classes)
    entries = [
        Entry(row.path, classes[row.label], f"{row.where}, column path: {row.path}") for row in parts[request.split]
    ]
    found = read_files(entries, tuple(classes), request)
    return replace(found, name=f"{request.name} ({request.split}{_left_out(rows)})")


def _table(request: Request) -> Path:
    if request.path is None:
        raise DataError(f"csv: no file given; write csv:FILE, or csv:DIR for DIR/{FILE_NAME}")
    path = request.locate()
    table = path / FILE_NAME if path.is_dir() else path
    if not table.is_file():
        raise DataError(f"{table}: no such file; expected a table with the columns {', '.join(NEEDED)}")
    if table.stat().st_size > MAX_TABLE_BYTES:
        raise DataError(f"{table}: {table.stat().st_size:,} bytes, more than {MAX_TABLE_BYTES:,}; give a part of it")
    return table


def _rows(table: Path) -> list[Row]:
    """All rows that are not blank; at least one."""
    records = _records(table)
    where, header = next(records, (str(table), []))
    columns = _columns(header, where)
    folder = table.parent.resolve()
    rows: list[Row] = []
    for where, cells in records:
        if len(cells) != len(header):
            raise DataError(f"{where}: {len(cells)} columns, the first line has {len(header)}; quote cells with commas")
        rows.append(_row({name: cells[place].strip() for name, place in columns.items()}, folder, where))
    if not rows:
        raise DataError(f"{table}: no rows below the first line; write one for each image")
    return rows


def _records(table: Path) -> Iterator[tuple[str, list[str]]]:
    """File and line, and the cells; blank lines, and those of commas alone, are left out."""
    text = read_utf8(table).removeprefix("\ufeff")  # with which spreadsheets begin theirs
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{table}, line {reader.line_num}", cells
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: {error}; expected comma-separated values") from error


def _columns(header: Sequence[str], where: str) -> dict[str, int]:
    """The place of each column that is read."""
    names = [name.strip().casefold() for name in header]
    for name in (*NEEDED, OPTIONAL):
        if names.count(name) > 1:
            raise DataError(f"{where}: {names.count(name)} columns {name!r}; leave one")
        if name in NEEDED and name not in names:
            found = ", ".join(header) or "nothing"
            raise DataError(f"{where}: no column {name!r}, found {found}; expected path, label and, if any, split")
    return {name: names.index(name) for name in (*NEEDED, OPTIONAL) if name in names}


def _row(cells: Mapping[str, str], folder: Path, where: str) -> Row:
    if not cells["label"]:
        raise DataError(f"{where}, column label: empty; write the class of the image, or remove the row")
    split = cells.get(OPTIONAL, "").casefold()
    if OPTIONAL in cells and split not in (*get_args(Split), *NEITHER):
        raise DataError(
            f"{where}, column split: got {cells[OPTIONAL]!r}, expected train or test, or {NEITHER[0]} for what neither "
            "reads; without the column rows are split 80/20"
        )
    return Row(where, _inside(cells["path"], folder, f"{where}, column path"), cells["label"], split)


def _inside(path: str, folder: Path, where: str) -> Path:
    """The file, which must lie in the folder, links followed: a table of others must not say what else is read."""
    try:
        found = (folder / path).resolve()
        is_inside, is_file = found.is_relative_to(folder), found.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, links in a circle
        raise DataError(f"{where}: {path[:80]!r} is no path: {error}") from error
    if not is_inside:
        raise DataError(f"{where}: {path!r} leads out of {folder}, where nothing is read; move the image into it")
    if not is_file:
        raise DataError(f"{where}: no file {path!r} in {folder}; put it there, or remove the row")
    return found


def _classes(rows: Sequence[Row], table: Path) -> dict[str, int]:
    """The label of each class by its name, of the rows to train on."""
    names = {row.label for row in rows if row.split in ("", "train")}
    if not names:
        raise DataError(f"{table}: no row has the split train; mark those to train on")
    if all(NUMBER.fullmatch(name) for name in names):
        return {name: label for label, name in enumerate(sorted(names, key=lambda name: (int(name), name)))}
    return {name: label for label, name in enumerate(sorted(names))}


def _as_told(rows: Sequence[Row], classes: Mapping[str, int], table: Path) -> dict[str, list[Row]]:
    """The rows of each split by the column; every class must occur in both."""
    parts = {split: [row for row in rows if row.split == split] for split in get_args(Split)}
    for row in parts["test"]:
        if row.label not in classes:
            raise DataError(f"{row.where}, column label: class {row.label!r} of a test row has no train row; add some")
    tested = {row.label for row in parts["test"]}
    for name in classes:
        if name not in tested:
            raise DataError(f"{table}: class {name!r} has no test row{_left_out(rows)}; add some, or remove the class")
    return parts


def _drawn(rows: Sequence[Row], classes: Mapping[str, int]) -> dict[str, list[Row]]:
    """The rows of each split where the table says nothing."""
    counts = Counter(row.label for row in rows)
    rarest = min(rows, key=lambda row: counts[row.label])
    if counts[rarest.label] < 2:
        raise DataError(
            f"{rarest.where}, column label: class {rarest.label!r} has this row alone, needs at least 2; add some, or "
            "remove the class"
        )
    labels = np.array([classes[row.label] for row in rows])
    return {split: [rows[i] for i in stratified(labels, split)] for split in get_args(Split)}


def _left_out(rows: Sequence[Row]) -> str:
    """Says which rows neither split reads, if there are any."""
    counts = Counter(row.split for row in rows if row.split in NEITHER)
    said = " and ".join(f"{count} of {split}" for split, count in sorted(counts.items()))
    return f"; rows left out: {said}" if said else ""
