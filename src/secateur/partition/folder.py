"""A network taken apart on the disk: one record, and for each device a packed container of what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from secateur.partition.device import Shard
from secateur.partition.document import ShardRecord, SplitRecord, describe
from secateur.partition.steps import Arrangement
from secateur.partition.topology import Topology
from secateur.partition.traffic import Needs
from secateur.spec import StoreError
from secateur.spec.files import in_one_piece, sha256_of
from secateur.store.packed import pack, unpack

RECORD = "partition.json"


def shard_name(device: int) -> str:
    return f"shard-{device}.sct"


def save_split(
    folder: str | Path,
    arrangement: Arrangement,
    needs: Needs,
    shards: Sequence[Mapping[str, Tensor]],
    topology: Topology,
    made_by: Mapping[str, str | int | float | None],
) -> SplitRecord:
    """Write the folder, whole or not at all. Raises StoreError where something is there already."""
    demand_new(Path(folder))
    with in_one_piece(Path(folder)) as temporary:
        records = tuple(_packed(shard, temporary / shard_name(device)) for device, shard in enumerate(shards))
        record = describe(arrangement, needs, topology, records, made_by).signed()
        (temporary / RECORD).write_text(record.to_json(), encoding="utf-8")
    return record


def demand_new(folder: Path) -> None:
    """Raise StoreError where something is there already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder} is not empty; name a folder that is not there yet")


def _packed(shard: Mapping[str, Tensor], path: Path) -> ShardRecord:
    pack(shard, path)
    shapes = {name: tuple(tensor.shape) for name, tensor in shard.items()}
    return ShardRecord(sha256_of(path), path.stat().st_size, shapes)


def read_record(folder: str | Path) -> SplitRecord:
    """Raises StoreError where there is none, or another, or one that was changed."""
    path = Path(folder) / RECORD
    try:
        record = SplitRecord.from_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{folder} holds no partition: {RECORD} cannot be read ({error.strerror})") from error
    record.demand_unchanged()
    return record


def read_shard(folder: str | Path, record: SplitRecord, device: int) -> Shard:
    """What a device holds. Raises StoreError for a file that is missing or is not the one that the record tells of."""
    path, wanted = Path(folder) / shard_name(device), record.shards[device]
    try:
        size = path.stat().st_size
        same = size == wanted.size_bytes and sha256_of(path) == wanted.sha256
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}; partition again") from error
    if not same:
        raise StoreError(
            f"{path} is not the shard that {RECORD} tells of: {size} bytes, expected {wanted.size_bytes} of hash "
            f"{wanted.sha256[:12]}...; copy it again, or partition again"
        )
    found = unpack(path)
    if {name: tuple(tensor.shape) for name, tensor in found.items()} != dict(wanted.shapes):
        raise StoreError(f"{path} holds other tensors than {RECORD} tells of; partition again")
    return found
