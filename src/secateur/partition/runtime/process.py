"""The process of one device, which is told what to do by an `Order` in JSON as its only argument."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch._C._distributed_c10d import FileStore

from secateur.partition.device import END, Device, Sending, find_sendings
from secateur.partition.folder import read_record, read_shard
from secateur.partition.runtime.links import Links
from secateur.spec import SecateurError
from secateur.spec.files import write_whole

INPUTS, OUTPUTS = "inputs.safetensors", "outputs.safetensors"
MEETING = "meeting"
"""A file by which the devices find each other."""
BEAT = 0.5


@dataclass(frozen=True)
class Order:
    """What a device is told when it is started."""

    folder: str
    work: str
    """A folder that all devices of the run see: inputs, outputs and what was measured."""
    device: int
    timeout: float
    slowed: bool
    batches: int


def measured_name(device: int) -> str:
    return f"measured-{device}.json"


def alive_name(device: int) -> str:
    """A file that is touched every `BEAT` seconds."""
    return f"alive-{device}"


def main() -> None:
    """Run as the arguments say; an error is one line on stderr. The interpreter is not brought to its end: threads of
    gloo that still let go of tensors would abort it now and then."""
    order = Order(**json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    threading.Thread(target=_show_life, args=(Path(order.work) / alive_name(order.device),), daemon=True).start()
    try:
        with torch.inference_mode():
            _run(order)
    except (SecateurError, RuntimeError, OSError) as error:
        sys.stderr.write(f"{str(error).splitlines()[0]}\n")
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _show_life(path: Path) -> None:
    while True:
        path.touch()
        time.sleep(BEAT)


def _run(order: Order) -> None:
    record = read_record(order.folder)
    arrangement, needs = record.arrangement(), record.find_needs()
    device = Device(arrangement, read_shard(order.folder, record, order.device), order.device)
    sendings = find_sendings(arrangement, needs)
    tags = {id(sending): tag for tag, sending in enumerate(s for found in sendings.values() for s in found)}
    _meet(order, record.topology.devices)
    links = Links(order.device, record.topology, order.timeout, slowed=order.slowed)
    made: list[list[Tensor]] = []
    start = time.perf_counter()
    for batch in range(order.batches):
        device.begin(_inputs(order, record.inputs, batch) if order.device == record.topology.home else [])
        for step in arrangement.steps:
            _cross(device, links, sendings.get(step.number, []), tags)
            device.run(step)
        _cross(device, links, sendings.get(END, []), tags)
        links.settle()
        if order.device == record.topology.home:
            made.append(device.outputs())
    seconds = time.perf_counter() - start
    work = Path(order.work)
    if order.device == record.topology.home:
        whole = {f"output-{number}": torch.cat(parts) for number, parts in enumerate(zip(*made, strict=True))}
        write_whole(work / OUTPUTS, save(whole))
    measured = {"sent": dict(links.sent), "received": dict(links.received), "seconds": seconds, "waited": links.waited}
    write_whole(work / measured_name(order.device), json.dumps(measured))
    dist.destroy_process_group()


def _meet(order: Order, devices: int) -> None:
    """Until all are there."""
    patience = timedelta(seconds=order.timeout)
    store = FileStore(str(Path(order.work) / MEETING), devices)
    store.set_timeout(patience)
    try:
        dist.init_process_group("gloo", store=store, rank=order.device, world_size=devices, timeout=patience)
        dist.barrier()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise SecateurError(f"the {devices} devices did not meet within {order.timeout:g} s: {reason}") from error


def _inputs(order: Order, numbers: tuple[int, ...], batch: int) -> list[Tensor]:
    with safe_open(Path(order.work) / INPUTS, "pt") as file:
        return [file.get_tensor(f"{batch}.{place}") for place in range(len(numbers))]


def _cross(device: Device, links: Links, sendings: list[Sending], tags: dict[int, int]) -> None:
    """This device's share of what crosses now."""
    for sending in sendings:
        if sending.sender == device.device:
            links.send(device.give(sending), sending.receiver, tags[id(sending)])
    coming = [sending for sending in sendings if sending.receiver == device.device]
    rooms = [device.room(sending) for sending in coming]
    links.receive([(room, sending.sender, tags[id(sending)]) for room, sending in zip(rooms, coming, strict=True)])
    for room, sending in zip(rooms, coming, strict=True):
        device.take(sending, room)
